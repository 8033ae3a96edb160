//! Turns three processes into one Kafka cluster, whose leaders may be killed.

use std::time::Instant;

use rdkafka::consumer::Consumer;

use crate::kafka::{Kafka, Node, cluster_id};
use crate::ports::free_port;
use crate::wait::{secs, try_until};

/// Three nodes, each controller and broker, with three replicas of everything. Gone on drop.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Kafka>,
}

const NODES: usize = 3;

// === impl Cluster ===

impl Cluster {
    /// Starts all nodes at once: none can do without a majority.
    pub fn start() -> Cluster {
        let start = Instant::now();
        let (cluster_id, controllers) = (cluster_id(), [(); NODES].map(|()| free_port()));
        let voter = |(at, port): (usize, &u16)| format!("{}@127.0.0.1:{port}", at + 1);
        let voters = controllers.iter().enumerate().map(voter).collect::<Vec<_>>().join(",");
        let node = |(at, &controller): (usize, &u16)| {
            let mut builder =
                Kafka::builder().property("node.id", &(at + 1).to_string()).property("controller.quorum.voters", &voters);
            for name in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
                builder = builder.property(&format!("{name}.replication.factor"), "3");
            }
            builder = builder.property("transaction.state.log.min.isr", "2").property("default.replication.factor", "3");
            builder.property("min.insync.replicas", "2").node(Node { controller, cluster_id: cluster_id.clone() }).format()
        };
        let mut nodes: Vec<Kafka> = controllers.iter().enumerate().map(node).collect();
        nodes.iter_mut().for_each(Kafka::launch);
        nodes.iter_mut().for_each(Kafka::until_it_answers);
        println!("a cluster of {NODES} ready after {:.1?}", start.elapsed());
        Cluster { nodes }
    }

    /// The addresses of all nodes.
    pub fn brokers(&self) -> String {
        self.nodes.iter().map(Kafka::brokers).collect::<Vec<_>>().join(",")
    }

    /// Creates a topic with a replica on each node.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.nodes[0].create_replicated_topic(name, partitions, NODES as i32, &[]);
    }

    /// The node that leads a topic's first partition, as another one than `without` sees it.
    #[track_caller]
    pub fn leader(&self, topic: &str, without: Option<usize>) -> usize {
        let asked = (0..NODES).find(|at| Some(*at) != without).expect("another node");
        let leader = || {
            let metadata = self.nodes[asked].client().fetch_metadata(Some(topic), secs(5)).ok()?;
            let leader = metadata.topics().first()?.partitions().iter().find(|partition| partition.id() == 0)?.leader();
            usize::try_from(leader - 1).ok().filter(|at| Some(*at) != without)
        };
        try_until(secs(60), leader).unwrap_or_else(|| panic!("nobody leads {topic}"))
    }

    /// Kills a node with -9.
    pub fn kill_9(&mut self, node: usize) {
        self.nodes[node].kill_9();
    }

    /// Starts a node again.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node].start_again();
    }
}
