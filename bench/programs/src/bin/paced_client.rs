//! Latency at a fixed rate, free of coordinated omission: `paced_client ADDRESS RATE SECONDS CONNECTIONS PATH`.
//!
//! Request `i` is due at `i / RATE`, whatever became of the ones before it; its latency counts from then, so that a peer
//! that stalls is charged for every request that it kept waiting. Prints `started` when requests begin to count, and one JSON
//! object at the end.

use penstock_bench::argument;
use penstock_bench::http::{Body, read_head, status};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What is unanswered this long after the last request was due counts as failed.
const GRACE: Duration = Duration::from_secs(3);
/// The first tenth of the requests warms up pools and caches, and is not counted.
const WARM_UP_SHARE: u64 = 10;

fn main() -> Result<()> {
    let address: SocketAddr = argument(1, "the address of the proxy")?;
    let rate: u64 = argument(2, "requests per second")?;
    let seconds: f64 = argument(3, "seconds")?;
    let connections: usize = argument(4, "the number of connections")?;
    let path: String = argument(5, "the path to ask for")?;
    let mut load = Load::open(address, connections, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))?;
    let total = (rate as f64 * seconds) as u64;
    let run = load.run(Duration::from_nanos(1_000_000_000 / rate.max(1)), total)?;
    writeln!(std::io::stdout(), "{}", run.report(total))
}

/// One connection and the request under way on it.
struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// Number of the request that is unanswered.
    request: Option<u64>,
}

struct Load {
    address: SocketAddr,
    request: String,
    connections: Vec<Connection>,
    /// Used in turn, so that all of them stay in use at any rate.
    free: VecDeque<usize>,
    poll: Poll,
}

#[derive(Default)]
struct Run {
    latencies: Vec<u64>,
    answered: u64,
    failed: u64,
}

impl Load {
    fn open(address: SocketAddr, count: usize, request: String) -> Result<Self> {
        let poll = Poll::new()?;
        let mut load = Load { address, request, connections: Vec::new(), free: (0..count).collect(), poll };
        for place in 0..count {
            let connection = load.connect(place)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    fn connect(&self, place: usize) -> Result<Connection> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        self.poll.add(&socket, place)?;
        Ok(Connection { socket, buffer: Vec::with_capacity(4096), request: None })
    }

    fn run(&mut self, interval: Duration, total: u64) -> Result<Run> {
        let mut run = Run { latencies: Vec::with_capacity(total as usize), ..Run::default() };
        let mut sent = 0;
        let start = Instant::now();
        let due = |request: u64| Duration::from_nanos(interval.as_nanos() as u64 * request);
        let end = due(total) + GRACE;
        while run.answered + run.failed < total {
            let mut now = start.elapsed();
            while sent < total && due(sent) <= now {
                let Some(place) = self.free.pop_front() else { break };
                if sent == total / WARM_UP_SHARE {
                    writeln!(std::io::stdout(), "started")?;
                }
                self.send(place, sent, &mut run)?;
                sent += 1;
                now = start.elapsed();
            }
            if now > end {
                run.failed = total - run.answered;
                break;
            }
            // All connections busy: the next answer wakes us, and requests that are due meanwhile wait their turn.
            let next = if sent < total && !self.free.is_empty() { due(sent) } else { end };
            for place in self.poll.wait(next.saturating_sub(now))? {
                if let Some(request) = self.receive(place, &mut run)? {
                    let latency = start.elapsed().saturating_sub(due(request));
                    if request >= total / WARM_UP_SHARE {
                        run.latencies.push(latency.as_nanos() as u64);
                    }
                    run.answered += 1;
                }
            }
        }
        Ok(run)
    }

    fn send(&mut self, place: usize, request: u64, run: &mut Run) -> Result<()> {
        let connection = &mut self.connections[place];
        connection.request = Some(request);
        match connection.socket.write_all(self.request.as_bytes()) {
            Ok(()) => Ok(()),
            Err(_) => self.fail(place, run),
        }
    }

    /// The number of the request that was answered in full, if one was.
    fn receive(&mut self, place: usize, run: &mut Run) -> Result<Option<u64>> {
        let connection = &mut self.connections[place];
        let mut block = [0_u8; 4096];
        match connection.socket.read(&mut block) {
            Ok(0) => return self.fail(place, run).map(|()| None),
            Ok(got) => connection.buffer.extend_from_slice(&block[..got]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(_) => return self.fail(place, run).map(|()| None),
        }
        let Some(head) = read_head(&connection.buffer) else { return Ok(None) };
        let Body::Length(length) = head.body else { return self.fail(place, run).map(|()| None) };
        if connection.buffer.len() < head.length + length as usize {
            return Ok(None);
        }
        if status(&connection.buffer) != 200 {
            return self.fail(place, run).map(|()| None);
        }
        connection.buffer.clear();
        self.free.push_back(place);
        Ok(connection.request.take())
    }

    /// Counts the request under way as failed and opens the connection anew.
    fn fail(&mut self, place: usize, run: &mut Run) -> Result<()> {
        if self.connections[place].request.is_some() {
            run.failed += 1;
            self.free.push_back(place);
        }
        self.connections[place] = self.connect(place)?;
        Ok(())
    }
}

impl Run {
    fn report(mut self, total: u64) -> String {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let place = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(place.min(self.latencies.len().saturating_sub(1))).map_or(0.0, |ns| *ns as f64 / 1000.0)
        };
        format!(
            "{{\"requests\": {total}, \"answered\": {}, \"failed\": {}, \"p50_us\": {:.1}, \"p90_us\": {:.1}, \
             \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}}}",
            self.answered,
            self.failed,
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    }
}

/// epoll with nanosecond waits: a millisecond is twenty requests here.
struct Poll {
    descriptor: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    fn new() -> Result<Self> {
        // SAFETY: a plain system call; the number that it returns is checked before it is owned.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if number < 0 {
            return Err(Error::last_os_error());
        }
        // The kernel may delay a sleeper by 50 µs to save power: too much for this clock.
        // SAFETY: PR_SET_TIMERSLACK takes one number and touches no memory.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
        // SAFETY: `number` is a descriptor that was just made, and nothing else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Poll { descriptor, events: vec![libc::epoll_event { events: 0, u64: 0 }; 128] })
    }

    fn add(&self, socket: &TcpStream, place: usize) -> Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: place as u64 };
        let (poll, added) = (self.descriptor.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: both descriptors are open, and `event` lives until the call returns.
        match unsafe { libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, added, &raw mut event) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }

    fn wait(&mut self, longest: Duration) -> Result<Vec<usize>> {
        let wait = libc::timespec {
            tv_sec: libc::time_t::try_from(longest.as_secs()).unwrap_or(1),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let (room, none) = (self.events.len(), std::ptr::null::<libc::sigset_t>());
        // SAFETY: `events` has room for `room` events, `wait` lives until the call returns, and no signal mask is given.
        let got = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.descriptor.as_raw_fd(),
                self.events.as_mut_ptr(),
                room,
                &raw const wait,
                none,
                0_usize,
            )
        };
        match usize::try_from(got) {
            Ok(count) => Ok(self.events[..count].iter().map(|event| event.u64 as usize).collect()),
            Err(_) if Error::last_os_error().kind() == ErrorKind::Interrupted => Ok(Vec::new()),
            Err(_) => Err(Error::last_os_error()),
        }
    }
}
