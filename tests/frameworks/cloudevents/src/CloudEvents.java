// Reads topics with the CloudEvents SDK's Kafka binding, and every JSON document with Jackson; answers one JSON line a record.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class CloudEvents {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    private static final ObjectMapper JSON = new ObjectMapper();

    private CloudEvents() {}

    /** Arguments: `events` or `json`, the brokers, topics. */
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", args[1]);
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : Arrays.copyOfRange(args, 2, args.length)) {
                consumer.partitionsFor(topic).forEach(info -> partitions.add(new TopicPartition(topic, info.partition())));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    OUT.println(args[0].equals("events") ? event(record) : document(record));
                }
            }
        }
        OUT.flush();
    }

    private static ObjectNode event(ConsumerRecord<byte[], byte[]> record) throws Exception {
        ObjectNode node = JSON.createObjectNode().put("topic", record.topic());
        Headers headers = record.headers();
        if (headers.lastHeader("content-type") == null && record.value() == null) {
            return node.put("tombstone", true);
        }
        CloudEvent event = KafkaMessageFactory.createReader(headers, record.value()).toEvent();
        node.put("specversion", event.getSpecVersion().toString()).put("id", event.getId()).put("source", event.getSource().toString());
        node.put("type", event.getType()).put("subject", event.getSubject()).put("time", String.valueOf(event.getTime()));
        node.put("datacontenttype", event.getDataContentType());
        event.getExtensionNames().forEach(name -> node.put(name, String.valueOf(event.getExtension(name))));
        if (event.getData() != null) {
            node.set("data", JSON.readTree(event.getData().toBytes()));
        }
        return node;
    }

    /** Key and value read and written by Jackson. */
    private static ObjectNode document(ConsumerRecord<byte[], byte[]> record) throws Exception {
        ObjectNode node = JSON.createObjectNode().put("topic", record.topic()).put("offset", record.offset());
        JsonNode key = record.key() == null ? null : JSON.readTree(record.key());
        JsonNode value = record.value() == null ? null : JSON.readTree(record.value());
        return node.putPOJO("key", key).putPOJO("value", value);
    }
}
