//! Turns a loopback port and a path into an answer, by a request as small as HTTP allows.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, as sent.
    pub head: String,
    /// The body.
    pub body: String,
}

/// How long a server on this machine may take: longer than relay itself waits for an answer from its wire thread.
const LIMIT: Duration = Duration::from_secs(40);

/// GET of a path.
pub fn get(port: u16, path: &str) -> Result<Answer, Error> {
    request(port, "GET", path, &[], "")
}

/// Any method with headers and a body. HTTP/1.0, so that the body ends with the connection and is never in chunks.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, Error> {
    let address = ([127, 0, 0, 1], port).into();
    let mut socket = TcpStream::connect_timeout(&address, LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    socket.write_all(format!("{text}\r\n{body}").as_bytes())?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| Error::new(ErrorKind::InvalidData, "no HTTP answer"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    #[test]
    fn an_answer_has_status_and_body() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut got = vec![0; 1024];
            let n = socket.read(&mut got).unwrap();
            socket.write_all(b"HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\n{\"state\":\"failed\"}").unwrap();
            String::from_utf8_lossy(&got[..n]).into_owned()
        });
        let answer = super::get(port, "/status").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "{\"state\":\"failed\"}"));
        assert!(server.join().unwrap().starts_with("GET /status HTTP/1.0\r\nHost: 127.0.0.1:"));
    }
}
