//! The aggregate codec behind pipes, so that another implementation can be held against it.
//!
//! `aggregates encode` reads lines of JSON, each a list of `[partition key, explicit hash key or
//! null, data as hex]`, and answers each with the aggregate as hex; `aggregates decode` does the
//! reverse. Used by `tests/interop/aggregates.py`.

use std::io::{self, BufRead, Write};

use kinesis_core::{Aggregate, Deaggregated, UserRecord, deaggregate};

type Member = (String, Option<String>, String);
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let answer = match std::env::args().nth(1).as_deref() {
        Some("encode") => encode,
        Some("decode") => decode,
        _ => return Err("usage: aggregates encode|decode".into()),
    };
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", answer(&line?)?)?;
    }
    Ok(())
}

fn encode(line: &str) -> Result<String, Failure> {
    let mut aggregate = Aggregate::new();
    for (key, hash_key, data) in serde_json::from_str::<Vec<Member>>(line)? {
        let record = UserRecord::new(key, from_hex(&data)?);
        aggregate.push(match hash_key {
            Some(hash_key) => record.with_explicit_hash_key(hash_key.parse()?),
            None => record,
        });
    }
    Ok(to_hex(&aggregate.encode()))
}

fn decode(line: &str) -> Result<String, Failure> {
    match deaggregate(&from_hex(line)?.into()) {
        Deaggregated::Damaged { reason, .. } => Err(format!("damaged: {reason}").into()),
        Deaggregated::Raw(reason) => Err(format!("not an aggregate: {reason:?}").into()),
        Deaggregated::Members(members) => {
            let members = members.iter().map(|member| {
                let hash_key = member.explicit_hash_key.map(|key| key.to_string());
                (&*member.partition_key, hash_key, to_hex(&member.data))
            });
            Ok(serde_json::to_string(&members.collect::<Vec<_>>())?)
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits
        .filter(|digits| digits.len() % 2 == 0)
        .ok_or("not hex")?;
    Ok(digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect())
}
