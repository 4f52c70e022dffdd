//! Our matchers against the patterns of the API model, as an engine of regular expressions reads
//! them: each member that has one is given texts made of it, texts of one more or one fewer of what
//! it counts, and texts with something changed. The answer tells the constraint exactly if the engine
//! does not match.

use std::collections::BTreeMap;

use kinesis_core::Rand;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::string::string_regex;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use regex_lite::Regex;

use super::*;

/// Where all chance comes from.
const SEED: u64 = 0x5eed_0019;

/// Texts made of each variant of a pattern.
const MADE_OF_EACH: usize = 4;

/// Changed texts for each member.
const CHANGED: usize = 60;

/// What is put into texts: parts of ARNs, and what a class or a blank may or may not take.
const PARTS: [&str; 31] = [
    ":",
    "/",
    "-",
    "_",
    ".",
    "*",
    "#",
    "$",
    "=",
    "{",
    "'",
    "0",
    "9",
    "a",
    "Z",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{b}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "я",
    "٣",
    ":stream/",
    ":kinesis:",
    ":000000000000:",
    "/consumer/",
    "queue/",
    "arn:aws",
];

/// A pattern as the engines here read it: whole, with Java's `.`, and digits and blanks of ASCII. Or,
/// if it is to be `narrow`, with a `.` of such characters only as ARNs are made of.
fn translated(pattern: &str, narrow: bool) -> String {
    let (dot, no_blank) = if narrow {
        ("[a-c:/ 0-9]", "[a-c:/0-9]")
    } else {
        (r"[^\n\r\u{85}\u{2028}\u{2029}]", r"[^ \t\n\u{b}\u{c}\r]")
    };
    let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
    let mut translated = String::new();
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().unwrap() {
                'd' => translated.push_str("[0-9]"),
                'S' => translated.push_str(no_blank),
                escaped => translated.extend(['\\', escaped]),
            },
            '.' if !in_class => translated.push_str(dot),
            _ => {
                in_class = c == '[' || in_class && c != ']';
                translated.push(c);
            }
        }
    }
    translated
}

/// The pattern, and with one more or fewer of what it counts, and just so many as it allows.
fn variants(pattern: &str) -> Vec<String> {
    let mut variants = vec![pattern.to_owned()];
    for (at, _) in pattern.match_indices('{') {
        let end = at + pattern[at..].find('}').unwrap();
        let counts: Result<Vec<u32>, _> = pattern[at + 1..end].split(',').map(str::parse).collect();
        let Ok(counts) = counts else { continue }; // a brace in a class
        let (least, most) = (counts[0], counts[counts.len() - 1]);
        for count in [least.saturating_sub(1), least, most, most + 1] {
            variants.push(format!(
                "{}{{{count}}}{}",
                &pattern[..at],
                &pattern[end + 1..]
            ));
        }
    }
    variants
}

/// Makes texts, each pattern's always the same.
struct Texts {
    runner: TestRunner,
    rand: Rand,
}

impl Texts {
    fn new() -> Self {
        let seed = SEED.to_le_bytes().repeat(4);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        Self {
            runner: TestRunner::new_with_rng(Config::default(), rng),
            rand: Rand::seeded(SEED),
        }
    }

    /// Texts that match a pattern or nearly do.
    fn of(&mut self, pattern: &str) -> Vec<String> {
        let mut texts = vec![String::new()];
        for variant in variants(pattern) {
            for narrow in [true, false] {
                let strategy = string_regex(&translated(&variant, narrow)).unwrap();
                for _ in 0..MADE_OF_EACH {
                    texts.push(strategy.new_tree(&mut self.runner).unwrap().current());
                }
            }
        }
        let made = texts.len();
        // Each character of ASCII somewhere in a text, and in the place of one.
        for c in 0..0x80_u8 {
            let text = self.pick(&texts[..made]).to_owned();
            let whole = usize::from(c % 2);
            texts.push(self.changed(&text, whole, &char::from(c).to_string()));
        }
        for _ in 0..CHANGED {
            let text = self.pick(&texts).to_owned();
            let width = self.rand.below(3) as usize;
            let part = match self.rand.below(3) {
                0 => "",
                1 => self.pick(&PARTS),
                _ => self.pick(&texts),
            };
            texts.push(self.changed(&text, width, part));
        }
        texts
    }

    fn pick<'a>(&self, from: &'a [impl AsRef<str>]) -> &'a str {
        from[self.rand.below(from.len() as u64) as usize].as_ref()
    }

    /// The text with `part` in the place of so many of its characters.
    fn changed(&self, text: &str, width: usize, part: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let at = self.rand.below(chars.len() as u64 + 1) as usize;
        let behind = (at + width).min(chars.len());
        let (before, behind) = (chars[..at].iter(), chars[behind..].iter());
        before
            .copied()
            .chain(part.chars())
            .chain(behind.copied())
            .collect()
    }
}

/// The service tells the decimals' patterns without the model's anchors and outer brackets.
fn as_told(pattern: &str) -> &str {
    let bare = pattern.strip_prefix("^(0|");
    match bare.and_then(|_| pattern[2..].strip_suffix(")$")) {
        Some(bare) => bare,
        None => pattern,
    }
}

#[tokio::test(start_paused = true)]
async fn every_member_takes_just_the_texts_that_the_models_pattern_matches() {
    let mut texts = Texts::new();
    let mut patterns: BTreeMap<String, (Regex, Vec<String>)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for (operation, shape) in MODEL.iter() {
        let mut places = Vec::new();
        members(shape, "", &|body| body, &mut |shape, path, wrap| {
            let Some(pattern) = shape["pattern"].as_str() else {
                return;
            };
            let (regex, texts) = patterns.entry(pattern.to_owned()).or_insert_with(|| {
                let whole = format!("^(?:{})$", translated(pattern, false));
                (Regex::new(&whole).unwrap(), texts.of(pattern))
            });
            let text = "Member must satisfy regular expression pattern: ";
            let failure = failure(path, &format!("{text}{}", as_told(pattern)));
            places.extend(texts.iter().map(|text| {
                let matches = regex.is_match(text);
                (wrap(json!(text)), failure.clone(), matches, text.clone())
            }));
        });
        let kinesis = kinesis();
        for (body, failure, matches, text) in places {
            let message = told(&kinesis, operation, &body).await;
            if message.contains(&failure) == matches {
                let verb = if matches { "refused" } else { "taken" };
                wrong.push(format!("{operation}{failure}: {text:?} is {verb}"));
            }
            *(if matches { &mut taken } else { &mut refused }) += 1;
        }
    }
    let some: Vec<_> = wrong.iter().take(20).map(String::as_str).collect();
    let count = wrong.len();
    assert!(count == 0, "{count} (seed {SEED:#x}):\n{}", some.join("\n"));
    assert_eq!(patterns.len(), 20);
    assert!(
        taken > 5_000 && refused > 5_000,
        "{taken} taken, {refused} refused"
    );
    for (pattern, (regex, texts)) in &patterns {
        let matching = texts.iter().filter(|text| regex.is_match(text)).count();
        let others = texts.len() - matching;
        assert!(
            matching > 10 && others > 5,
            "{pattern}: {matching} match, {others} do not"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_arn_although_the_pattern_takes_it_is_not_found() {
    let kinesis = with_stream(1).await;
    for (operation, member, kind) in [
        ("DescribeStreamSummary", "StreamARN", "stream"),
        ("DescribeStreamConsumer", "ConsumerARN", "stream"),
        ("DescribeQueue", "QueueARN", "queue"),
        ("DescribeChannel", "ChannelARN", "channel"),
        ("ListTagsForResource", "ResourceARN", "stream"),
        ("ListTagsForResource", "ResourceARN", "queue"),
    ] {
        let name = if member == "ConsumerARN" {
            "s/consumer/c:1"
        } else {
            "s"
        };
        for before in [
            format!("x:{kind}/y:000000000000"),
            "us-east-1:000000000000:x:000000000000".to_owned(),
            ":000000000000".to_owned(),
        ] {
            let arn = format!("arn:aws:kinesis:{before}:{kind}/{name}");
            let (code, text) = refused(&kinesis, operation, json!({ member: arn })).await;
            assert_eq!(
                code, "ResourceNotFoundException",
                "{operation} {arn}: {text}"
            );
        }
    }
}
