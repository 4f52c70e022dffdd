// The KCL's own way to take aggregates apart, behind pipes, for the test target `kcl`.
//
//   java -cp 'classes:lib/*' KclAggregates
//
// Reads Kinesis records, one a line, tab separated, each field's bytes as hex:
//   DATA  PARTITION-KEY
// and answers each with one line per user record that AggregatorUtil finds in it:
//   member  SUB-SEQUENCE  PARTITION-KEY  EXPLICIT-HASH-KEY  DATA
//   raw     PARTITION-KEY  DATA
// and `end`. A member without an explicit hash key has an empty field there.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.List;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

public final class KclAggregates {
    private KclAggregates() {}

    private static final HexFormat HEX = HexFormat.of();

    private static String hex(String text) {
        return HEX.formatHex(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String hex(ByteBuffer data) {
        byte[] bytes = new byte[data.remaining()];
        data.duplicate().get(bytes);
        return HEX.formatHex(bytes);
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.US_ASCII);
        AggregatorUtil aggregator = new AggregatorUtil();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] fields = line.split("\t", -1);
            KinesisClientRecord record = KinesisClientRecord.builder()
                    .data(ByteBuffer.wrap(HEX.parseHex(fields[0])))
                    .partitionKey(new String(HEX.parseHex(fields[1]), StandardCharsets.UTF_8))
                    .sequenceNumber("1")
                    .build();
            for (KinesisClientRecord found : aggregator.deaggregate(List.of(record))) {
                String key = hex(found.partitionKey());
                if (found.aggregated()) {
                    String hashKey = found.explicitHashKey() == null ? "" : found.explicitHashKey();
                    out.println(String.join("\t",
                            "member", Long.toString(found.subSequenceNumber()), key, hashKey, hex(found.data())));
                } else {
                    out.println(String.join("\t", "raw", key, hex(found.data())));
                }
            }
            out.println("end");
        }
        out.flush();
    }
}
