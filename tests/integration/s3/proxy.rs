//! A TCP proxy before S3 that can be told to misbehave.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Clone, Debug)]
pub enum Weather {
    Fine,
    /// Connections end at once.
    Down,
    /// Connections end after so many bytes of what is asked.
    CutsRequestsAfter(usize),
    /// Connections end after so many bytes of what is answered.
    CutsAnswersAfter(usize),
    /// After so many bytes of what is asked, nothing moves any more.
    StallsRequestsAfter(usize),
    /// After so many bytes of what is answered, nothing moves any more.
    StallsAnswersAfter(usize),
    /// One byte of what is answered, after so many, is another.
    SpoilsAnswersAfter(usize),
    /// This is all that anybody gets for an answer.
    Says(&'static [u8]),
}

pub struct Proxy {
    pub address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
}

impl Proxy {
    pub fn before(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let weather = Arc::new(Mutex::new(Weather::Fine));
        let told = weather.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let weather = told.lock().expect("no panic under this lock").clone();
                thread::spawn(move || serve(client, target, weather));
            }
        });
        Proxy { address, weather }
    }

    /// Holds for connections from now on.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().expect("no panic under this lock") = weather;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(mut client: TcpStream, target: SocketAddr, weather: Weather) {
    let mut spoils = None;
    let (asked, answered) = match weather {
        Weather::Down => return,
        Weather::Says(answer) => {
            let mut head = [0; 4096];
            // Whatever is asked.
            let _ = client.read(&mut head).and_then(|_| client.write_all(answer));
            let _ = client.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut client, &mut std::io::sink());
            return;
        }
        Weather::Fine => (None, None),
        Weather::SpoilsAnswersAfter(bytes) => {
            spoils = Some(bytes);
            (None, None)
        }
        Weather::CutsRequestsAfter(bytes) => (Some((bytes, true)), None),
        Weather::CutsAnswersAfter(bytes) => (None, Some((bytes, true))),
        Weather::StallsRequestsAfter(bytes) => (Some((bytes, false)), None),
        Weather::StallsAnswersAfter(bytes) => (None, Some((bytes, false))),
    };
    let Ok(server) = TcpStream::connect(target) else { return };
    let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { return };
    let up = thread::spawn(move || pass(client2, server2, asked, None));
    pass(server, client, answered, spoils);
    let _ = up.join();
}

/// Passes bytes on, up to a limit that cuts both ways or lets everything stand.
fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    limit: Option<(usize, bool)>,
    spoils: Option<usize>,
) {
    let mut passed = 0;
    let mut piece = [0; 8192];
    loop {
        let most = limit.map_or(piece.len(), |(bytes, _)| (bytes - passed).min(piece.len()));
        if most == 0 {
            let (_, cuts) = limit.expect("there is one");
            if cuts {
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            } else {
                // Until the other side lets go.
                while from.peek(&mut [0]).is_ok_and(|n| n > 0) {
                    thread::sleep(std::time::Duration::from_millis(20));
                }
                let _ = to.shutdown(Shutdown::Both);
            }
            return;
        }
        match from.read(&mut piece[..most]) {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                let spoilt = spoils.and_then(|at| piece[..n].get_mut(at.checked_sub(passed)?));
                spoilt.into_iter().for_each(|byte| *byte ^= 1);
                if to.write_all(&piece[..n]).is_err() {
                    break;
                }
                passed += n;
            }
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
