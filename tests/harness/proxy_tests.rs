//! Shows that each fault of the proxy takes hold, is counted, and ends when healed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::spawn;
use std::time::{Duration, Instant};

use super::{Direction, Proxy};
use crate::wait::{secs, until};

/// A server that sends back what it gets.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for socket in listener.incoming().flatten() {
            spawn(move || {
                let (mut from, mut to) = (socket.try_clone().unwrap(), socket);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    port
}

fn dial(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(secs(30))).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

fn ask(socket: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    socket.write_all(text)?;
    let mut answer = vec![0; text.len()];
    socket.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_healthy_proxy_forwards_everything_and_the_end() {
    let proxy = Proxy::start(echo());
    let mut socket = dial(&proxy);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
    let copy = sent.clone();
    let mut writer = socket.try_clone().unwrap();
    let thread = spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    socket.read_to_end(&mut got).unwrap();
    thread.join().unwrap();
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.bytes_up, counts.bytes_down), (1, 3_000_000, 3_000_000));
    assert_eq!((counts.cuts, counts.stalls, counts.swallowed), (0, 0, 0));
}

#[test]
fn a_cut_resets_and_new_connections_work() {
    let proxy = Proxy::start(echo());
    let mut socket = dial(&proxy);
    ask(&mut socket, b"one").unwrap();
    assert_eq!(proxy.cut(), 1);
    let error = socket.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(ask(&mut dial(&proxy), b"two").unwrap(), b"two");
    assert_eq!(proxy.counts().cuts, 1);
    proxy.refuse();
    assert!(TcpStream::connect(proxy.address()).and_then(|mut s| ask(&mut s, b"three")).is_err());
    until("a refused connection", secs(30), || (proxy.counts().refused == 1).then_some(()));
    proxy.heal();
    ask(&mut dial(&proxy), b"four").unwrap();
}

#[test]
fn a_stall_holds_bytes_and_loses_none() {
    let proxy = Proxy::start(echo());
    for direction in [Direction::Up, Direction::Down] {
        let mut socket = dial(&proxy);
        ask(&mut socket, b"before").unwrap();
        let stalls = proxy.counts().stalls;
        proxy.stall(direction);
        socket.write_all(b"held").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(socket.read(&mut [0; 8]).is_err());
        until("the stall to be counted", secs(30), || (proxy.counts().stalls > stalls).then_some(()));
        proxy.heal();
        socket.set_read_timeout(Some(secs(30))).unwrap();
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"held");
    }
}

#[test]
fn a_half_open_connection_takes_bytes_and_is_reset_when_healed() {
    let proxy = Proxy::start(echo());
    let mut socket = dial(&proxy);
    ask(&mut socket, b"before").unwrap();
    proxy.half_open();
    socket.write_all(&[1; 100_000]).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(socket.read(&mut [0; 8]).is_err());
    until("bytes in the black hole", secs(30), || (proxy.counts().swallowed == 100_000).then_some(()));
    assert_eq!(proxy.counts().half_open, 1);
    proxy.heal();
    socket.set_read_timeout(Some(secs(30))).unwrap();
    assert_eq!(socket.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    ask(&mut dial(&proxy), b"after").unwrap();
}

#[test]
fn a_delay_and_a_thin_wire_take_their_time() {
    let proxy = Proxy::start(echo());
    let mut socket = dial(&proxy);
    proxy.delay(Duration::from_millis(60));
    let start = Instant::now();
    ask(&mut socket, b"slow").unwrap();
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    proxy.heal();
    proxy.bandwidth(200_000);
    let start = Instant::now();
    ask(&mut socket, &[7; 100_000]).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert!(proxy.counts().delays > 2);
}

#[test]
fn a_cut_after_n_bytes_lets_exactly_n_through() {
    let proxy = Proxy::start(echo());
    let mut socket = dial(&proxy);
    ask(&mut socket, b"before").unwrap();
    proxy.cut_after(Direction::Down, 1_234);
    // The cut may come while the last of it is still to be written.
    let _ = socket.write_all(&[9; 50_000]);
    let (mut got, mut buffer) = (0, [0; 4096]);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => panic!("a clean end in place of a reset"),
            Ok(n) => got += n,
            Err(_) => break,
        }
    }
    assert_eq!(got, 1_234);
    until("the cut to be counted", secs(30), || (proxy.counts().cuts == 1).then_some(()));
    ask(&mut dial(&proxy), b"after").unwrap();
}

#[test]
fn chaos_injects_and_then_heals() {
    let proxy = Proxy::start(echo());
    let chaos = proxy.chaos(3, secs(4));
    let end = Instant::now() + secs(4);
    while Instant::now() < end {
        if let Ok(mut socket) = TcpStream::connect(proxy.address()) {
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            while ask(&mut socket, &[5; 1000]).is_ok() && Instant::now() < end {}
        }
    }
    assert!(!chaos.finish().is_empty());
    let counts = proxy.counts();
    assert!(counts.cuts + counts.stalls + counts.half_open + counts.delays + counts.refused > 0, "{counts:?}");
    assert_eq!(ask(&mut dial(&proxy), b"well").unwrap(), b"well");
}
