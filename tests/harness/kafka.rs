//! Turns some properties into a running Apache Kafka broker of one node that tests may stop, freeze, kill and start again.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;

use crate::fetch;
use crate::ports::free_port;
use crate::process::{Exit, Process, as_server, run};
use crate::proxy::Proxy;
use crate::scratch::Scratch;
use crate::seed::Seed;
use crate::versions::KAFKA;
use crate::wait::{secs, until};

/// How long a start may take on a busy machine of two cores.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a broker is to be before it starts.
#[derive(Debug, Clone)]
pub struct Builder {
    properties: Vec<(String, String)>,
    is_proxied: bool,
    secured: Option<(String, String)>,
    users: Vec<(String, String)>,
    tls: Option<Tls>,
    has_authorizer: bool,
    jvm: Vec<String>,
    node: Option<Node>,
}

/// One of several nodes: its controller's port and its cluster are chosen by the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) controller: u16,
    pub(crate) cluster_id: String,
}

#[derive(Debug, Clone)]
struct Tls {
    keystore_pem: String,
    ca_pem: String,
    asks_for_client_certificate: bool,
}

/// Where the broker listens, and where it tells clients to come.
#[derive(Debug)]
struct Listener {
    name: &'static str,
    port: u16,
    advertised: u16,
    protocol: String,
}

/// One node in KRaft combined mode, on 127.0.0.1, in a folder of its own. Gone on drop.
#[derive(Debug)]
pub struct Kafka {
    direct: u16,
    secured: Option<u16>,
    proxy: Option<Proxy>,
    jvm: Vec<String>,
    process: Option<Process>,
    scratch: Scratch,
}

// === impl Builder ===

impl Builder {
    /// A property of server.properties, over the harness's own.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a listener whose advertised address is a fault proxy's, so that clients stay behind it.
    pub fn proxied(mut self) -> Self {
        self.is_proxied = true;
        self
    }

    /// Adds a listener with Kafka's names for protocol (`SSL`, `SASL_PLAINTEXT`, `SASL_SSL`) and mechanism (`PLAIN`,
    /// `SCRAM-SHA-256`, `SCRAM-SHA-512`, or "" for SSL alone).
    pub fn secured(mut self, protocol: &str, mechanism: &str) -> Self {
        self.secured = Some((protocol.to_owned(), mechanism.to_owned()));
        self
    }

    /// A user of the secured listener.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// The secured listener's certificate chain with its key, and the CA that it believes, all in PEM.
    pub fn tls(mut self, cert_pem: &str, key_pem: &str, ca_pem: &str, asks_for_client_certificate: bool) -> Self {
        let keystore_pem = format!("{key_pem}\n{cert_pem}");
        self.tls = Some(Tls { keystore_pem, ca_pem: ca_pem.to_owned(), asks_for_client_certificate });
        self
    }

    /// Kafka's own authorizer: users of the secured listener may do what [`Kafka::acl`] allowed; the direct listener
    /// stays all-powerful.
    pub fn authorizer(mut self) -> Self {
        self.has_authorizer = true;
        self
    }

    /// Full optimisation and a heap of 1 GiB: for measurements.
    pub fn for_load(mut self) -> Self {
        self.jvm = ["-Xms512m", "-Xmx1g", "-XX:+UseG1GC"].map(str::to_owned).to_vec();
        self
    }

    pub(crate) fn node(mut self, node: Node) -> Self {
        self.node = Some(node);
        self
    }

    /// Formats the log directory and starts the broker.
    pub fn start(self) -> Kafka {
        let start = Instant::now();
        let mut kafka = self.format();
        kafka.start_again();
        println!("Apache Kafka {KAFKA} ready on port {} after {:.2?}", kafka.direct, start.elapsed());
        kafka
    }

    /// A broker with a formatted log directory, not running yet.
    pub(crate) fn format(self) -> Kafka {
        fetch::kafka_class_path();
        let scratch = Scratch::new("kafka");
        let (direct, controller) = (free_port(), self.node.as_ref().map_or_else(free_port, |node| node.controller));
        let proxied = self.is_proxied.then(free_port);
        let proxy = proxied.map(Proxy::for_kafka);
        let secured = self.secured.is_some().then(free_port);
        let plain = |name, port, advertised| Listener { name, port, advertised, protocol: "PLAINTEXT".to_owned() };
        let mut listeners = vec![plain("DIRECT", direct, direct), plain("CONTROLLER", controller, controller)];
        listeners.extend(proxy.iter().zip(proxied).map(|(proxy, port)| plain("PROXIED", port, proxy.port())));
        if let (Some(port), Some((protocol, _))) = (secured, &self.secured) {
            listeners.push(Listener { name: "SECURED", port, advertised: port, protocol: protocol.clone() });
        }
        let properties = self.properties(&scratch, &listeners, controller);
        scratch.write("server.properties", &properties);
        let kafka = Kafka { direct, secured, proxy, jvm: self.jvm.clone(), process: None, scratch };
        let cluster_id = self.node.as_ref().map_or_else(cluster_id, |node| node.cluster_id.clone());
        kafka.format(&cluster_id, &self.scram_users());
        kafka
    }

    fn properties(&self, scratch: &Scratch, listeners: &[Listener], controller: u16) -> String {
        let mut text = String::from(DEFAULTS);
        let mut put = |name: &str, value: &str| text.push_str(&format!("{name}={value}\n"));
        put("log.dirs", &scratch.join("log").display().to_string());
        put("controller.quorum.voters", &format!("1@127.0.0.1:{controller}"));
        let (mut bound, mut advertised, mut protocols) = (Vec::new(), Vec::new(), Vec::new());
        for listener in listeners {
            bound.push(format!("{}://127.0.0.1:{}", listener.name, listener.port));
            protocols.push(format!("{}:{}", listener.name, listener.protocol));
            if listener.name != "CONTROLLER" {
                advertised.push(format!("{}://127.0.0.1:{}", listener.name, listener.advertised));
            }
        }
        put("listeners", &bound.join(","));
        put("advertised.listeners", &advertised.join(","));
        put("listener.security.protocol.map", &protocols.join(","));
        if let Some((_, mechanism)) = self.secured.as_ref().filter(|(_, mechanism)| !mechanism.is_empty()) {
            put("listener.name.secured.sasl.enabled.mechanisms", mechanism);
            let users: String = self.users.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
            let module = match mechanism.as_str() {
                "PLAIN" => format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};"),
                _ => "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
            };
            put(&format!("listener.name.secured.{}.sasl.jaas.config", mechanism.to_lowercase()), &module);
        }
        if let Some(tls) = &self.tls {
            put("ssl.keystore.type", "PEM");
            put("ssl.truststore.type", "PEM");
            put("ssl.keystore.location", &scratch.write("keystore.pem", &tls.keystore_pem).display().to_string());
            put("ssl.truststore.location", &scratch.write("truststore.pem", &tls.ca_pem).display().to_string());
            put("listener.name.secured.ssl.client.auth", if tls.asks_for_client_certificate { "required" } else { "none" });
        }
        if self.has_authorizer {
            put("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
            put("super.users", "User:ANONYMOUS");
        }
        self.properties.iter().for_each(|(name, value)| put(name, value));
        text
    }

    /// SCRAM credentials are written into the log directory when it is formatted.
    fn scram_users(&self) -> Vec<String> {
        let Some((_, mechanism)) = self.secured.as_ref().filter(|(_, m)| m.starts_with("SCRAM")) else { return Vec::new() };
        self.users.iter().map(|(name, password)| format!("{mechanism}=[name={name},password={password}]")).collect()
    }
}

/// One replica of everything, no waiting for group members, transactions that time out are found within a second, and a
/// log cleaner that does not ask for 128 MiB at once. A broker killed with -9 may register again only after its old
/// session has timed out, 9 s by default; one that stands still for so long loses its partitions for a moment. Golden rows
/// are of a day long gone, which retention would delete at its next look.
const DEFAULTS: &str = "
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
log.retention.ms=-1
num.network.threads=2
num.io.threads=4
background.threads=2
file.delete.delay.ms=1000
";

// === impl Kafka ===

impl Kafka {
    /// A broker with the harness's defaults.
    pub fn start() -> Kafka {
        Self::builder().start()
    }

    /// A broker to be described further.
    pub fn builder() -> Builder {
        Builder {
            properties: Vec::new(),
            is_proxied: false,
            secured: None,
            users: Vec::new(),
            tls: None,
            has_authorizer: false,
            node: None,
            // Tests start many and use them little: compile quickly rather than well.
            jvm: ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(str::to_owned).to_vec(),
        }
    }

    /// The broker that all tests of one binary share, each with topics of its own. It ends with the process.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Kafka::start)
    }

    /// `127.0.0.1:port` of the listener without proxy or security.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.direct)
    }

    /// The address behind which every connection goes through [`Kafka::proxy`].
    pub fn proxied_brokers(&self) -> String {
        self.proxy().address()
    }

    /// The fault proxy; panics when the broker was built without [`Builder::proxied`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the broker was built with a proxy")
    }

    /// The address of the secured listener; panics when the broker was built without one.
    pub fn secured_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.secured.expect("the broker was built with a secured listener"))
    }

    /// The broker's process, for measurements; panics while it is down.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the broker is running")
    }

    /// All that the broker has logged: warnings and errors.
    pub fn logs(&self) -> String {
        std::fs::read_to_string(self.scratch.join("broker.log")).unwrap_or_default()
    }

    /// Starts the broker on the log directory and ports it had; nothing happens while it runs.
    pub fn start_again(&mut self) {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return;
        }
        self.launch();
        self.until_it_answers();
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn launch(&mut self) {
        let log = self.scratch.join("broker.log");
        let mut command = self.java("kafka.Kafka");
        command.arg(self.scratch.join("server.properties"));
        self.process = Some(Process::start("Kafka", &mut command, &log, "KILL"));
    }

    pub(crate) fn until_it_answers(&mut self) {
        let consumer = self.client();
        until("Kafka to answer with its metadata", START_LIMIT, || {
            assert!(self.process().is_running(), "Kafka ended while starting\n{}", self.process().log_tail());
            std::net::TcpStream::connect(("127.0.0.1", self.direct)).ok()?;
            consumer.fetch_metadata(None, secs(1)).ok().filter(|metadata| !metadata.brokers().is_empty())
        });
    }

    /// Clean shutdown.
    #[track_caller]
    pub fn stop(&mut self) -> Exit {
        let exit = self.process().end_by(Signal::TERM, secs(60));
        self.process = None;
        exit
    }

    /// Kills the broker with -9; its log directory stays.
    pub fn kill_9(&mut self) -> Exit {
        let exit = self.process().kill_9();
        self.process = None;
        exit
    }

    /// Freezes the broker: connections stay open, nothing answers.
    pub fn pause(&mut self) {
        self.process().pause();
    }

    /// Lets the broker run on.
    pub fn resume(&mut self) {
        self.process().resume();
    }

    /// Runs one of Kafka's own tools, such as `org.apache.kafka.tools.AclCommand`, against the direct listener.
    pub fn tool(&self, class: &str, args: &[&str]) -> String {
        run(class, self.java(class).args(["--bootstrap-server", &self.brokers()]).args(args))
    }

    /// Allows or denies, in the words of kafka-acls: `["--add", "--allow-principal", "User:relay", …]`.
    pub fn acl(&self, args: &[&str]) -> String {
        self.tool("org.apache.kafka.tools.AclCommand", args)
    }

    /// A client of librdkafka on the direct listener that subscribes to nothing.
    pub(crate) fn client(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("group.id", "relay-tests");
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200").set("log_level", "0");
        config.create().expect("create a Kafka client")
    }

    fn java(&self, class: &str) -> Command {
        let mut command = as_server("java");
        command.args(&self.jvm).args(["-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
        command.args(["-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", &fetch::kafka_class_path(), class]);
        command
    }

    fn format(&self, cluster_id: &str, scram_users: &[String]) {
        let mut command = self.java("kafka.tools.StorageTool");
        command.args(["format", "-t", cluster_id, "-c"]).arg(self.scratch.join("server.properties"));
        for user in scram_users {
            command.args(["--add-scram", user]);
        }
        run("format Kafka's log directory", &mut command);
    }
}

/// Sixteen random bytes as Kafka writes them: 22 letters of base64, the last of which holds two bits.
pub(crate) fn cluster_id() -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut seed = Seed::new(u64::from(std::process::id()) ^ u64::from(free_port()) << 32 ^ Seed::fresh());
    let letter = |n: u64| char::from(LETTERS[usize::try_from(n).unwrap_or(0)]);
    (0..21).map(|_| letter(seed.below(62))).chain(['A']).collect()
}
