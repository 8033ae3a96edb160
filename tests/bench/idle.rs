//! Turns a relay with nothing to do into the share of a core that it takes all the same.

use std::time::{Duration, Instant};

use relay_tests::{Relay, secs};

use crate::cpu::Meter;
use crate::relay;
use crate::servers::Servers;
use crate::watermarks::Watermarks;

/// How long the clock runs; a tick of CPU time is then 0.1 %.
const WINDOW: Duration = Duration::from_secs(10);

/// Percent of one core, after one event has gone through.
pub(crate) fn measure(servers: &Servers) -> Result<f64, String> {
    println!("\n# idle");
    let topics = ["outbox.event.idle".to_owned()];
    servers.fresh_topic(&topics[0], 4);
    let outbox = servers.db.prepare_outbox("idle");
    let marks = Watermarks::of(&servers.kafka.brokers(), &topics, 4)?;
    let mut relay = Relay::on(&servers.db, &servers.kafka, &outbox).binary(&servers.relay).spawn();
    let insert = format!("INSERT INTO {} (aggregate_type, type, payload) VALUES ('idle', 'made', '{{}}')", outbox.table);
    let end = Instant::now() + secs(60);
    while marks.gained() == 0 {
        if Instant::now() > end || !relay.process().is_running() {
            return Err(format!("no event came through\n{}", relay.process().log_tail()));
        }
        servers.db.sql(&insert);
        std::thread::sleep(Duration::from_millis(200));
    }
    // What follows a start and a first event is not idleness yet: checkpoints, metadata.
    std::thread::sleep(secs(3));
    let (meter, start) = (Meter::start(relay.process().pid()), Instant::now());
    std::thread::sleep(WINDOW);
    let percent = meter.spent().as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    relay::stop(&mut relay);
    Ok(percent)
}
