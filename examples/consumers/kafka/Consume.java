import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.time.Duration;
import java.util.*;
import java.util.function.Function;
import java.util.stream.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads events from a Kafka topic and verifies each of them again.
 *
 * The bridge did that before it published them. This program need not believe it, nor whoever else can write to the
 * topic: it computes the provider's signature anew, from the value as it arrived, and compares it with the one beside.
 */
public final class Consume {
    /** The header with the signature, what key a secret stands for, and how the signature is written. */
    record Provider(String header, Function<String, byte[]> key, Function<byte[], String> written) {}

    static final Map<String, Provider> PROVIDERS = Map.of(
        "fastpix", new Provider("fastpix-signature", Base64.getDecoder()::decode, Base64.getEncoder()::encodeToString),
        "fastgen", new Provider("x-fastgen-signature", text -> text.getBytes(UTF_8), HexFormat.of()::formatHex));

    /** A source of the bridge. */
    record Source(Provider provider, List<String> secrets) {}

    public static void main(String[] arguments) throws Exception {
        var options = options(arguments);
        var sources = sources(options);
        var out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, UTF_8);
        // Delivery is at least once, so an event may come twice. A consumer with a database keeps this there instead,
        // and writes it in the same transaction as what the event led to: then a crash in between does no harm.
        var seen = new LinkedHashMap<List<String>, Boolean>() {
            @Override protected boolean removeEldestEntry(Map.Entry<List<String>, Boolean> eldest) {
                return size() > 65_536;
            }
        };
        long left = Long.parseLong(options.get("count"));
        try (var consumer = new KafkaConsumer<byte[], byte[]>(properties(options))) {
            consumer.subscribe(List.of(options.get("topic")));
            while (left > 0) {
                var records = consumer.poll(Duration.ofSeconds(1));
                var done = new HashMap<TopicPartition, OffsetAndMetadata>();
                for (var record : records) {
                    if (left == 0) break;
                    var headers = new HashMap<String, String>();
                    for (var header : record.headers()) headers.put(header.key(), text(header.value()));
                    boolean authentic = isAuthentic(headers, record.value(), sources);
                    var event = Arrays.asList(headers.get("ce_source"), headers.get("ce_type"), headers.get("ce_id"));
                    // A forged event must not make us think that we have seen the real one.
                    boolean again = authentic && seen.put(event, true) != null;
                    out.print(options.containsKey("json")
                        ? json(record, authentic, again) : shown(record, authentic, again));
                    // Here an authentic event that was not seen before would be dealt with.
                    var partition = new TopicPartition(record.topic(), record.partition());
                    done.put(partition, new OffsetAndMetadata(record.offset() + 1));
                    left--;
                }
                out.flush();
                // Not before: what is not committed comes again, to us or to another of the group.
                consumer.commitSync(done);
                if (options.containsKey("until-idle") && records.isEmpty() && isAtEnd(consumer)) break;
            }
        }
    }

    /** Whether the provider signed exactly these bytes. */
    static boolean isAuthentic(Map<String, String> headers, byte[] body, Map<String, Source> sources)
            throws GeneralSecurityException {
        var source = sources.get(headers.get("ce_source"));
        if (source == null || body == null) return false;
        var claimed = Objects.requireNonNullElse(headers.get(source.provider.header), "").getBytes(UTF_8);
        boolean found = false;
        for (var secret : source.secrets) {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(source.provider.key.apply(secret), "HmacSHA256"));
            var written = source.provider.written.apply(mac.doFinal(body)).getBytes(UTF_8);
            // In constant time, so that nobody can guess a signature byte by byte.
            found |= MessageDigest.isEqual(written, claimed);
        }
        return found;
    }

    /** Sources with their secrets, one a line: events signed before a rotation still need the old one. */
    static Map<String, Source> sources(Map<String, String> options) throws IOException {
        var sources = new HashMap<String, Source>();
        for (var pair : options.get("source").split(",")) {
            var name = pair.split("=")[0];
            var variable = System.getenv(name.toUpperCase(Locale.ROOT).replace('-', '_') + "_SECRET");
            var file = Path.of(options.get("secrets"), name + ".secret");
            var text = variable != null ? variable : Files.exists(file) ? Files.readString(file) : "";
            var secrets = text.lines().filter(line -> !line.isEmpty()).toList();
            sources.put("/hooks/" + name, new Source(PROVIDERS.get(pair.split("=")[1]), secrets));
        }
        return sources;
    }

    static Properties properties(Map<String, String> options) throws IOException {
        var properties = new Properties();
        if (options.containsKey("config")) {
            try (var file = Files.newBufferedReader(Path.of(options.get("config")))) { properties.load(file); }
        }
        properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("brokers"));
        properties.put(ConsumerConfig.GROUP_ID_CONFIG, options.get("group"));
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        properties.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        properties.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        return properties;
    }

    /** Whether everything there is now has been read. */
    static boolean isAtEnd(KafkaConsumer<byte[], byte[]> consumer) {
        var ends = consumer.endOffsets(consumer.assignment()).entrySet();
        return !ends.isEmpty() && ends.stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
    }

    static Map<String, String> options(String[] arguments) {
        var brokers = System.getenv().getOrDefault("KAFKA_BROKERS", "127.0.0.1:9092");
        var options = new HashMap<>(Map.of("brokers", brokers, "group", "consume", "secrets", ".",
            "source", "fastpix=fastpix,fastgen=fastgen", "count", String.valueOf(Long.MAX_VALUE)));
        for (var words = List.of(arguments).iterator(); words.hasNext(); ) {
            var word = words.next();
            switch (word) {
                case "--json", "--until-idle" -> options.put(word.substring(2), "");
                case "--brokers", "--config", "--count", "--group", "--secrets", "--source" ->
                    options.put(word.substring(2), words.next());
                default -> options.put(word.startsWith("-") ? "help" : "topic", word);
            }
        }
        if (options.containsKey("help") || !options.containsKey("topic")) {
            System.err.println("Consume.java TOPIC [--brokers HOST:PORT] [--config FILE] [--group NAME] [--json] "
                + "[--secrets FOLDER] [--source NAME=PROVIDER,..] [--count N] [--until-idle]");
            System.exit(2);
        }
        return options;
    }

    static String shown(ConsumerRecord<byte[], byte[]> record, boolean authentic, boolean again) {
        var lines = new StringBuilder("%s: %s%s%n".formatted(position(record),
            authentic ? "authentic" : "NOT AUTHENTIC", again ? ", seen before" : ""));
        record.headers().forEach(header ->
            lines.append("    %-20s %s%n".formatted(header.key(), text(header.value()))));
        return lines.toString();
    }

    static String json(ConsumerRecord<byte[], byte[]> record, boolean authentic, boolean again) {
        var headers = StreamSupport.stream(record.headers().spliterator(), false)
            .map(header -> "[" + quoted(header.key()) + "," + quoted(text(header.value())) + "]");
        var body = record.value() == null ? null : Base64.getEncoder().encodeToString(record.value());
        return "{\"position\":%s,\"key\":%s,\"headers\":[%s],\"body\":%s,\"authentic\":%b,\"duplicate\":%b}%n"
            .formatted(quoted(position(record)), quoted(text(record.key())),
                headers.collect(Collectors.joining(",")), quoted(body), authentic, again);
    }

    static String position(ConsumerRecord<?, ?> record) {
        return record.topic() + "/" + record.partition() + "@" + record.offset();
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, UTF_8);
    }

    /** A string of JSON. */
    static String quoted(String text) {
        if (text == null) return null;
        var escaped = text.chars().mapToObj(c -> c == '"' || c == '\\' ? "\\" + (char) c
            : c < ' ' ? "\\u%04x".formatted(c) : String.valueOf((char) c));
        return escaped.collect(Collectors.joining("", "\"", "\""));
    }
}
