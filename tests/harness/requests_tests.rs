//! Shows that each trap takes the request it is for, and no other, whatever pieces the bytes come in.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::spawn;

use super::{Api, Trap};
use crate::proxy::Proxy;
use crate::wait::{secs, until};

/// A broker that answers each request with its correlation id and its api_key.
fn broker() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for mut socket in listener.incoming().flatten() {
            spawn(move || {
                let mut head = [0; 14];
                while socket.read_exact(&mut head).is_ok() {
                    let answer = [&[0, 0, 0, 6][..], &head[8..12], &head[4..6]].concat();
                    socket.write_all(&answer).unwrap();
                }
            });
        }
    });
    port
}

fn dial(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(secs(30))).unwrap();
    socket
}

fn request(api: i16, correlation: i32) -> Vec<u8> {
    [&10_i32.to_be_bytes()[..], &api.to_be_bytes(), &[0, 0], &correlation.to_be_bytes(), &[1, 2]].concat()
}

/// The correlation id and api_key of the next answer; `None` when the connection ends instead.
fn answer(socket: &mut TcpStream) -> Option<(u8, u8)> {
    let mut bytes = [0; 10];
    socket.read_exact(&mut bytes).ok()?;
    Some((bytes[7], bytes[9]))
}

#[test]
fn a_trap_takes_its_kind_and_lets_the_others_pass() {
    let proxy = Proxy::for_kafka(broker());
    let mut client = dial(&proxy);
    proxy.trap(Api::EndTxn, Trap::DropRequest, 1);
    let stream = [request(0, 1), request(26, 2), request(18, 3), request(26, 4)].concat();
    for piece in stream.chunks(5) {
        client.write_all(piece).unwrap();
        client.flush().unwrap();
    }
    assert_eq!([answer(&mut client), answer(&mut client), answer(&mut client)], [Some((1, 0)), Some((3, 18)), Some((4, 26))]);
    assert_eq!((proxy.trapped(Api::EndTxn, Trap::DropRequest), proxy.seen(Api::EndTxn), proxy.seen(Api::Produce)), (1, 2, 1));
}

#[test]
fn an_answer_is_dropped_or_cut_off_once_the_broker_has_given_it() {
    let proxy = Proxy::for_kafka(broker());
    let mut client = dial(&proxy);
    proxy.trap(Api::Produce, Trap::DropResponse, 1);
    client.write_all(&[request(0, 1), request(0, 2)].concat()).unwrap();
    assert_eq!(answer(&mut client), Some((2, 0)));
    assert_eq!(proxy.trapped(Api::Produce, Trap::DropResponse), 1);
    proxy.trap(Api::Produce, Trap::CutAfter, 1);
    client.write_all(&request(0, 3)).unwrap();
    until("the cut", secs(30), || (proxy.trapped(Api::Produce, Trap::CutAfter) == 1).then_some(()));
    assert_eq!(answer(&mut client), None);
    let mut client = dial(&proxy);
    proxy.trap(Api::Produce, Trap::CutBefore, 1);
    client.write_all(&request(0, 4)).unwrap();
    assert_eq!(answer(&mut client), None);
    assert_eq!(proxy.counts().cuts, 2);
}

#[test]
fn a_request_that_was_held_comes_late_by_its_connection_or_by_another() {
    let proxy = Proxy::for_kafka(broker());
    let mut client = dial(&proxy);
    proxy.trap(Api::EndTxn, Trap::Hold, 2);
    client.write_all(&[request(26, 1), request(26, 2), request(26, 3)].concat()).unwrap();
    assert_eq!(answer(&mut client), Some((3, 26)));
    assert_eq!(proxy.held(), 2);
    proxy.release();
    assert_eq!(answer(&mut client), Some((1, 26)));
    drop(client);
    assert_eq!(proxy.release_alone(), [0, 26]);
    assert_eq!(proxy.held(), 0);
}
