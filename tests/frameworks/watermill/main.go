// Writes outbox rows and reads records with Watermill's own publishers, subscribers and forwarder; JSON lines in, JSON lines out.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// Everything here is a matter of seconds; this is for busy machines.
const limit = 60 * time.Second

// Message is a Watermill message on a line.
type Message struct {
	Topic    string            `json:"topic,omitempty"`
	UUID     string            `json:"uuid"`
	Payload  []byte            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	switch args := os.Args; args[1] {
	case "publish":
		err = publish(ctx, args[2], args[3])
	case "read":
		err = read(ctx, args[2], args[3], args[4])
	case "forward":
		err = forward(ctx, args[2], args[3], args[4], args[5], args[6])
	default:
		err = fmt.Errorf("no command %s", args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func logger() watermill.LoggerAdapter {
	return watermill.NewStdLoggerWithOut(os.Stderr, false, false)
}

func open(url string) (*sql.DB, error) {
	return sql.Open("pgx", url)
}

// schema is the adapter that makes and fills the table of a topic, by name.
func schema(name string) wsql.SchemaAdapter {
	bytea := func(string) string { return "BYTEA" }
	switch name {
	case "queue":
		return wsql.PostgreSQLQueueSchema{}
	case "bytea":
		return wsql.DefaultPostgreSQLSchema{GeneratePayloadType: bytea}
	default:
		return wsql.DefaultPostgreSQLSchema{}
	}
}

// publish writes the messages on standard input into their topics' tables, which the adapter makes; "forwarder" wraps them into
// envelopes for the forwarder's topic.
func publish(ctx context.Context, url, kind string) error {
	db, err := open(url)
	if err != nil {
		return err
	}
	config := wsql.PublisherConfig{SchemaAdapter: schema(kind), AutoInitializeSchema: true}
	var publisher message.Publisher
	publisher, err = wsql.NewPublisher(wsql.BeginnerFromStdSQL(db), config, logger())
	if err != nil {
		return err
	}
	if kind == "forwarder" {
		publisher = forwarder.NewPublisher(publisher, forwarder.PublisherConfig{})
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var line Message
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		msg := message.NewMessageWithContext(ctx, line.UUID, line.Payload)
		msg.Metadata = line.Metadata
		if err := publisher.Publish(line.Topic, msg); err != nil {
			return err
		}
	}
	return lines.Err()
}

// fromKafka subscribes to whole topics, from their beginning.
func fromKafka(brokers string) (message.Subscriber, error) {
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               []string{brokers},
		Unmarshaler:           kafka.DefaultMarshaler{},
		OverwriteSaramaConfig: config,
	}, logger())
}

// fromSQL subscribes to the table of a topic.
func fromSQL(url string) (message.Subscriber, error) {
	db, err := open(url)
	if err != nil {
		return nil, err
	}
	return wsql.NewSubscriber(wsql.BeginnerFromStdSQL(db), wsql.SubscriberConfig{
		SchemaAdapter:    wsql.DefaultPostgreSQLSchema{},
		OffsetsAdapter:   wsql.DefaultPostgreSQLOffsetsAdapter{},
		PollInterval:     50 * time.Millisecond,
		InitializeSchema: true,
	}, logger())
}

// read prints the first records of a topic as Watermill's subscriber unmarshals them.
func read(ctx context.Context, brokers, topic, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	subscriber, err := fromKafka(brokers)
	if err != nil {
		return err
	}
	messages, err := subscriber.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for ; n > 0; n-- {
		msg, isOpen := <-messages
		if !isOpen {
			return fmt.Errorf("%d messages of %s are missing", n, topic)
		}
		if err := out.Encode(Message{UUID: msg.UUID, Payload: msg.Payload, Metadata: msg.Metadata}); err != nil {
			return err
		}
		msg.Ack()
	}
	return nil
}

// prefixed publishes to topics of its own, so that two forwarders of the same envelopes do not meet; done after the last one.
type prefixed struct {
	message.Publisher
	prefix string
	lock   sync.Mutex
	left   int
	done   chan struct{}
}

func (p *prefixed) Publish(topic string, messages ...*message.Message) error {
	err := p.Publisher.Publish(p.prefix+topic, messages...)
	p.lock.Lock()
	defer p.lock.Unlock()
	if err == nil && p.left > 0 {
		p.left -= len(messages)
		if p.left <= 0 {
			close(p.done)
		}
	}
	return err
}

// forward runs Watermill's forwarder from its table ("sql") or from a Kafka topic until it has published so many.
func forward(ctx context.Context, url, brokers, from, prefix, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var subscriber message.Subscriber
	topic := from
	if from == "sql" {
		topic = "forwarder_topic"
		subscriber, err = fromSQL(url)
	} else {
		subscriber, err = fromKafka(brokers)
	}
	if err != nil {
		return err
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers:   []string{brokers},
		Marshaler: kafka.DefaultMarshaler{},
	}, logger())
	if err != nil {
		return err
	}
	out := &prefixed{Publisher: publisher, prefix: prefix, left: n, done: make(chan struct{})}
	runner, err := forwarder.NewForwarder(subscriber, out, logger(), forwarder.Config{ForwarderTopic: topic})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- runner.Run(ctx) }()
	select {
	case <-out.done:
		return runner.Close()
	case err := <-failed:
		return fmt.Errorf("the forwarder ended early: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("the forwarder did not publish %d messages", n)
	}
}
