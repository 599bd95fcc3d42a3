import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Checks with Apache Kafka's Java clients: ClientChecks BOOTSTRAP CHECK. Ends with 1 when one fails. */
public final class ClientChecks {
    private static final Duration DEADLINE = Duration.ofSeconds(20);
    private static String bootstrap;

    private interface Check {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        Map<String, Check> checks = new TreeMap<>(Map.of(
            "admin", ClientChecks::admin,
            "compressions", ClientChecks::compressions,
            "idempotent-producer", ClientChecks::idempotentProducer,
            "classic-group", () -> group("classic"),
            "consumer-group", () -> group("consumer"),
            "static-member", () -> staticMember(false),
            "static-member-that-rejoined", () -> staticMember(true),
            "transactions", ClientChecks::transactions,
            "transactional-offsets", ClientChecks::transactionalOffsets));
        checks.get(arguments[1]).run();
        System.out.println("ok " + arguments[1]);
        System.exit(0);
    }

    private static void admin() throws Exception {
        try (Admin admin = Admin.create(common())) {
            var topic = create(admin, 2, Map.of("retention.ms", "60000"));
            require(admin.listTopics().names().get().contains(topic), "the topic is listed");
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            equal(2, described.partitions().size(), "partitions");
            equal(1, described.partitions().get(0).leader().id(), "the leader");
            try {
                admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
                throw new AssertionError("a topic was created twice");
            } catch (java.util.concurrent.ExecutionException failure) {
                require(failure.getCause() instanceof TopicExistsException, "TopicExistsException, not " + failure);
            }

            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var change = new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            equal("60000", config.get("retention.ms").value(), "retention.ms");
            equal("delete,compact", config.get("cleanup.policy").value(), "cleanup.policy");
            equal(ConfigEntry.ConfigSource.DEFAULT_CONFIG, config.get("segment.bytes").source(), "source of a default");

            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            equal(4, admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), "grown");
            require(!admin.describeCluster().clusterId().get().isEmpty(), "a cluster id");
            equal(1, admin.describeCluster().nodes().get().size(), "nodes");

            send(topic, 10, Map.of(), record -> record, 0);
            var first = new TopicPartition(topic, 0);
            equal(10L, admin.listOffsets(Map.of(first, OffsetSpec.latest())).all().get().get(first).offset(), "the end");
            admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(4))).all().get();
            equal(4L, admin.listOffsets(Map.of(first, OffsetSpec.earliest())).all().get().get(first).offset(), "the start");
            admin.deleteTopics(List.of(topic)).all().get();
            require(!admin.listTopics().names().get().contains(topic), "the topic is gone");
        }
    }

    private static void compressions() throws Exception {
        for (var codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            var topic = create(1);
            send(topic, 500, Map.of("compression.type", codec, "linger.ms", "20"), record -> {
                record.headers().add("trace", new byte[] {0, -1}).add("trace", "again".getBytes()).add("none", null);
                return record;
            }, 0);
            var records = read(topic, 500, Map.of());
            for (int n = 0; n < 500; n++) {
                var record = records.get(n);
                equal((long) n, record.offset(), codec + " offset");
                equal("key" + n, record.key(), codec + " key");
                equal("value" + n, record.value(), codec + " value");
                equal(1_700_000_000_000L + n, record.timestamp(), codec + " timestamp");
                equal(3, record.headers().toArray().length, codec + " headers");
                equal((byte) -1, record.headers().headers("trace").iterator().next().value()[1], codec + " header");
                require(record.headers().lastHeader("none").value() == null, codec + " null header");
            }
        }
    }

    private static void idempotentProducer() throws Exception {
        var topic = create(1);
        var config = Map.of("enable.idempotence", "true", "acks", "all", "batch.size", "200");
        send(topic, 5000, config, record -> record, 0);
        var values = read(topic, 5000, Map.of()).stream().map(ConsumerRecord::value).toList();
        for (int n = 0; n < 5000; n++) {
            equal("value" + n, values.get(n), "order");
        }
    }

    /** Two members share, one leaves, the other takes over and commits; a later member resumes. */
    private static void group(String protocol) throws Exception {
        var topic = create(4);
        var config = Map.of("group.id", topic, "group.protocol", protocol, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false");
        try (var first = consumer(config)) {
            first.subscribe(List.of(topic));
            try (var second = consumer(config)) {
                second.subscribe(List.of(topic));
                until("two partitions each", () -> {
                    first.poll(Duration.ofMillis(50));
                    second.poll(Duration.ofMillis(50));
                    return first.assignment().size() == 2 && second.assignment().size() == 2;
                });
            }
            until("all partitions at the member left", () -> {
                first.poll(Duration.ofMillis(50));
                return first.assignment().size() == 4;
            });
            send(topic, 100, Map.of(), record -> record, null);
            equal(100, take(first, 100).size(), "records");
            first.commitSync();
        }
        send(topic, 1, Map.of(), record -> record, null);
        try (var again = consumer(config); Admin admin = Admin.create(common())) {
            again.subscribe(List.of(topic));
            equal(1, take(again, 1).size(), "records after the commit");
            var described = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
            equal(1, described.members().size(), "members");
            equal(4, described.members().iterator().next().assignment().topicPartitions().size(), "its partitions");
            var offsets = admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
            equal(100L, offsets.values().stream().mapToLong(offset -> offset.offset()).sum(), "committed offsets");
        }
    }

    /**
     * A static member that comes back before its session ends keeps its partitions without a rebalance: also the one
     * that joined first and so joined again, with another generation in its metadata, when the other one came.
     */
    private static void staticMember(boolean firstReturns) throws Exception {
        var topic = create(2);
        var config = Map.of("group.id", topic, "session.timeout.ms", "30000", "auto.offset.reset", "earliest");
        var first = consumer(with(config, "group.instance.id", "one"));
        first.subscribe(List.of(topic));
        until("all partitions at the first member", () -> {
            first.poll(Duration.ofMillis(50));
            return first.assignment().size() == 2;
        });
        var second = consumer(with(config, "group.instance.id", "two"));
        second.subscribe(List.of(topic));
        until("a partition each", () -> {
            first.poll(Duration.ofMillis(50));
            second.poll(Duration.ofMillis(50));
            return first.assignment().size() == 1 && second.assignment().size() == 1;
        });
        var leaving = firstReturns ? first : second;
        var before = leaving.assignment();
        leaving.close();
        try (var staying = firstReturns ? second : first;
             var returned = consumer(with(config, "group.instance.id", firstReturns ? "one" : "two"))) {
            returned.subscribe(List.of(topic));
            until("its partition again", () -> {
                staying.poll(Duration.ofMillis(50));
                returned.poll(Duration.ofMillis(50));
                equal(1, staying.assignment().size(), "partitions of the member that stayed");
                return returned.assignment().equals(before);
            });
        }
    }

    private static void transactions() throws Exception {
        var topic = create(2);
        var config = Map.of("transactional.id", topic);
        try (var old = producer(config)) {
            old.initTransactions();
            for (boolean commit : new boolean[] {true, false, true}) {
                old.beginTransaction();
                for (int n = 0; n < 10; n++) {
                    old.send(new ProducerRecord<>(topic, n % 2, "k", commit ? "kept" : "dropped"));
                }
                if (commit) {
                    old.commitTransaction();
                } else {
                    // What was not sent yet would be dropped by the client itself.
                    old.flush();
                    old.abortTransaction();
                }
            }
            equal(20, values(topic, "read_committed").size(), "committed records");
            equal(Set.of("kept"), new HashSet<>(values(topic, "read_committed")), "committed values");
            equal(30, values(topic, "read_uncommitted").size(), "all records");

            old.beginTransaction();
            old.send(new ProducerRecord<>(topic, "k", "of the fenced one"));
            old.flush();
            try (var successor = producer(config)) {
                successor.initTransactions();
                try {
                    old.commitTransaction();
                    throw new AssertionError("the old producer was not fenced");
                } catch (ProducerFencedException expected) {
                    equal(20, values(topic, "read_committed").size(), "committed records after fencing");
                }
            }
        }
    }

    /** Consumes, produces and commits the offsets in one transaction, and asks an admin client about it. */
    private static void transactionalOffsets() throws Exception {
        var topic = create(1);
        var group = topic + "-group";
        var source = new TopicPartition(topic, 0);
        send(topic, 30, Map.of(), record -> record, 0);
        var config = Map.of("group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false",
            "isolation.level", "read_committed");
        try (Admin admin = Admin.create(common()); var producer = producer(Map.of("transactional.id", topic))) {
            producer.initTransactions();
            for (boolean commit : new boolean[] {true, false}) {
                try (var consumer = consumer(config)) {
                    consumer.subscribe(List.of(topic));
                    var records = take(consumer, 1);
                    var next = records.get(records.size() - 1).offset() + 1;
                    producer.beginTransaction();
                    producer.send(new ProducerRecord<>(topic, "k", "in the transaction")).get();
                    producer.sendOffsetsToTransaction(
                        Map.of(source, new OffsetAndMetadata(commit ? 10 : next)), consumer.groupMetadata());
                    var described = admin.describeTransactions(List.of(topic)).description(topic).get();
                    equal(TransactionState.ONGOING, described.state(), "the state");
                    require(described.topicPartitions().contains(source), "its partition");
                    var producers = admin.describeProducers(List.of(source)).partitionResult(source).get();
                    equal(1L, producers.activeProducers().stream()
                        .filter(each -> each.currentTransactionStartOffset().isPresent()).count(), "open transactions");
                    equal(1L, admin.listTransactions().all().get().stream()
                        .filter(each -> each.transactionalId().equals(topic)).count(), "listed transactions");
                    if (commit) {
                        producer.commitTransaction();
                    } else {
                        producer.abortTransaction();
                    }
                }
                var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
                equal(10L, committed.get(source).offset(), "the committed offset");
            }
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "k", "fenced")).get();
            admin.fenceProducers(List.of(topic)).all().get();
            try {
                producer.commitTransaction();
                throw new AssertionError("the producer was not fenced");
            } catch (ProducerFencedException expected) {
                var state = admin.describeTransactions(List.of(topic)).description(topic).get().state();
                equal(TransactionState.EMPTY, state, "the state after fencing");
            }
        }
    }

    private static List<String> values(String topic, String isolation) {
        try (var consumer = consumer(Map.of("isolation.level", isolation))) {
            var partitions = consumer.partitionsFor(topic).stream()
                .map(info -> new TopicPartition(topic, info.partition())).toList();
            var ends = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var values = new ArrayList<String>();
            until("the end", () -> {
                consumer.poll(Duration.ofMillis(50)).forEach(record -> values.add(record.value()));
                return partitions.stream().allMatch(each -> consumer.position(each) >= ends.get(each));
            });
            return values;
        }
    }

    private interface Change {
        ProducerRecord<String, String> apply(ProducerRecord<String, String> record);
    }

    private static void send(String topic, int count, Map<String, String> config, Change change, Integer partition)
        throws Exception {
        try (var producer = producer(config)) {
            Collection<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < count; n++) {
                var time = 1_700_000_000_000L + n;
                sent.add(producer.send(change.apply(new ProducerRecord<>(topic, partition, time, "key" + n, "value" + n))));
            }
            for (var each : sent) {
                each.get();
            }
        }
    }

    private static List<ConsumerRecord<String, String>> read(String topic, int count, Map<String, String> config) {
        try (var consumer = consumer(config)) {
            var partition = List.of(new TopicPartition(topic, 0));
            consumer.assign(partition);
            consumer.seekToBeginning(partition);
            return take(consumer, count);
        }
    }

    private static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) {
        var records = new ArrayList<ConsumerRecord<String, String>>();
        until(count + " records", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
            return records.size() >= count;
        });
        return records;
    }

    private interface Condition {
        boolean holds();
    }

    private static void until(String what, Condition condition) {
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        while (!condition.holds()) {
            require(System.nanoTime() < deadline, what + " did not come about in " + DEADLINE.toSeconds() + " s");
        }
    }

    private static String create(int partitions) throws Exception {
        try (Admin admin = Admin.create(common())) {
            return create(admin, partitions, Map.of());
        }
    }

    private static String create(Admin admin, int partitions, Map<String, String> config) throws Exception {
        var topic = "java-" + java.util.UUID.randomUUID();
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(config))).all().get();
        return topic;
    }

    private static KafkaProducer<String, String> producer(Map<String, String> config) {
        var all = common();
        all.putAll(config);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(Map<String, String> config) {
        var all = common();
        all.putAll(config);
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    private static Map<String, String> with(Map<String, String> config, String key, String value) {
        var all = new TreeMap<>(config);
        all.put(key, value);
        return all;
    }

    private static Properties common() {
        var common = new Properties();
        common.put("bootstrap.servers", bootstrap);
        return common;
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void equal(Object expected, Object seen, String what) {
        require(expected.equals(seen), what + ": expected " + expected + ", saw " + seen);
    }
}
