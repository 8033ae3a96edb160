// Writes outbox rows and reads records with Eventuate Tram's own producer, consumer and JSON mapper; JSON lines in, JSON lines out.
import com.fasterxml.jackson.databind.JsonNode;
import io.eventuate.common.id.ApplicationIdGenerator;
import io.eventuate.common.id.DatabaseIdGenerator;
import io.eventuate.common.id.IdGenerator;
import io.eventuate.common.jdbc.EventuateCommonJdbcOperations;
import io.eventuate.common.jdbc.EventuateJdbcOperationsUtils;
import io.eventuate.common.jdbc.EventuateSchema;
import io.eventuate.common.jdbc.OutboxPartitioningSpec;
import io.eventuate.common.jdbc.sqldialect.PostgresDialect;
import io.eventuate.common.json.mapper.JSonMapper;
import io.eventuate.common.spring.jdbc.EventuateSpringJdbcStatementExecutor;
import io.eventuate.messaging.kafka.basic.consumer.DefaultKafkaConsumerFactory;
import io.eventuate.messaging.kafka.basic.consumer.EventuateKafkaConsumerConfigurationProperties;
import io.eventuate.messaging.kafka.consumer.MessageConsumerKafkaImpl;
import io.eventuate.messaging.kafka.consumer.OriginalTopicPartitionToSwimlaneMapping;
import io.eventuate.tram.consumer.kafka.EventuateTramKafkaMessageConsumer;
import io.eventuate.tram.messaging.common.DefaultChannelMapping;
import io.eventuate.tram.messaging.common.Message;
import io.eventuate.tram.messaging.common.MessageInterceptor;
import io.eventuate.tram.messaging.producer.MessageBuilder;
import io.eventuate.tram.messaging.producer.common.MessageProducerImpl;
import io.eventuate.tram.messaging.producer.jdbc.MessageProducerJdbcImpl;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.SingleConnectionDataSource;

public final class Eventuate {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Eventuate() {}

    public static void main(String[] args) throws Exception {
        // Eventuate logs to standard output, which is for answers.
        System.setOut(System.err);
        List<JsonNode> input = input();
        switch (args[0]) {
            case "write" -> write(args[1], args[2], Integer.parseInt(args[3]), input);
            case "encode" -> input.forEach(Eventuate::encode);
            case "read" -> read(args[1], args[2], Integer.parseInt(args[3]));
            default -> throw new IllegalArgumentException(args[0]);
        }
        // Its consumer's threads go on otherwise.
        System.exit(0);
    }

    private static List<JsonNode> input() throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        BufferedReader reader = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            lines.add(JSonMapper.objectMapper.readTree(line));
        }
        return lines;
    }

    /** Sends messages as an application does: through the producer, which fills the outbox table in one transaction. */
    private static void write(String url, String ids, int shards, List<JsonNode> messages) throws Exception {
        SingleConnectionDataSource database = new SingleConnectionDataSource(url, true);
        database.setAutoCommit(false);
        PostgresDialect dialect = new PostgresDialect();
        OutboxPartitioningSpec outboxes = shards == 0 ? OutboxPartitioningSpec.DEFAULT : new OutboxPartitioningSpec(shards, 4);
        EventuateCommonJdbcOperations operations = new EventuateCommonJdbcOperations(
                new EventuateJdbcOperationsUtils(dialect),
                new EventuateSpringJdbcStatementExecutor(new JdbcTemplate(database)),
                dialect,
                outboxes);
        IdGenerator generator = ids.equals("database") ? new DatabaseIdGenerator(0) : new ApplicationIdGenerator();
        MessageProducerImpl producer = new MessageProducerImpl(
                new MessageInterceptor[0],
                new DefaultChannelMapping(Map.of()),
                new MessageProducerJdbcImpl(operations, generator, new EventuateSchema()));
        for (JsonNode message : messages) {
            MessageBuilder builder = MessageBuilder.withPayload(message.get("payload").asText());
            message.get("headers").fields().forEachRemaining(header -> builder.withHeader(header.getKey(), header.getValue().asText()));
            producer.send(message.get("destination").asText(), builder.build());
        }
        database.getConnection().commit();
    }

    /** What Eventuate's CDC service makes of a row: the headers parsed, an ID added where none is, and the message printed. */
    private static void encode(JsonNode row) {
        @SuppressWarnings("unchecked")
        Map<String, String> headers = JSonMapper.fromJson(row.get("headers").asText(), Map.class);
        if (!headers.containsKey("ID")) {
            headers = new HashMap<>(headers);
            headers.put("ID", new DatabaseIdGenerator(0).genId(row.get("dbid").asLong(), row.get("shard").asInt()).asString());
        }
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("payload", row.get("payload").asText());
        value.put("headers", headers);
        String key = headers.getOrDefault(Message.PARTITION_ID, headers.get(Message.ID));
        print(Map.of("id", headers.get(Message.ID), "key", key, "value", JSonMapper.toJson(value)));
    }

    /** Reads messages as an application does: through the consumer, by a subscription. */
    private static void read(String brokers, String channel, int count) throws InterruptedException {
        CountDownLatch left = new CountDownLatch(count);
        EventuateTramKafkaMessageConsumer consumer = new EventuateTramKafkaMessageConsumer(new MessageConsumerKafkaImpl(
                brokers,
                EventuateKafkaConsumerConfigurationProperties.empty(),
                new DefaultKafkaConsumerFactory(),
                new OriginalTopicPartitionToSwimlaneMapping()));
        consumer.subscribe("eventuate-" + channel, Set.of(channel), message -> {
            print(Map.of("id", message.getId(), "payload", message.getPayload(), "headers", message.getHeaders()));
            left.countDown();
        });
        if (!left.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException(left.getCount() + " of " + count + " messages are missing");
        }
    }

    private static synchronized void print(Map<String, ?> answer) {
        OUT.println(JSonMapper.toJson(answer));
    }
}
