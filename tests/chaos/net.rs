//! Three machines on a network of their own, made of network namespaces.
//!
//! What it is: [`Net`], the addresses 10.0.0.10 (head), .11 and .12 (workers) on a bridge that has a
//! namespace to itself, so that the machine's own network is not touched. What it is not: isolation
//! of anything but the network.
//!
//! Invariant: what a `Net` made is gone when it is dropped; what a killed test left behind is gone
//! when the next one starts.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};

use crate::process::is_test;

/// Begins the name of every namespace; the process id and a number follow.
const PREFIX: &str = "teamster-chaos-";

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Head,
    /// The first worker, or the second.
    Worker(usize),
    /// Where the bridge is.
    Switch,
}

pub const PLACES: [Place; 4] = [
    Place::Head,
    Place::Worker(0),
    Place::Worker(1),
    Place::Switch,
];

impl Place {
    pub fn address(self) -> &'static str {
        match self {
            Place::Head => "10.0.0.10",
            Place::Worker(0) => "10.0.0.11",
            Place::Worker(_) => "10.0.0.12",
            Place::Switch => "10.0.0.13",
        }
    }

    /// What tells its namespace from the others, and names its port on the bridge.
    fn label(self) -> &'static str {
        match self {
            Place::Head => "head",
            Place::Worker(0) => "worker0",
            Place::Worker(_) => "worker1",
            Place::Switch => "switch",
        }
    }
}

/// The network.
#[derive(Debug)]
pub struct Net {
    name: String,
}

impl Net {
    /// Sets it up.
    ///
    /// # Errors
    /// The command that failed, and what it said.
    pub fn new() -> Result<Net, String> {
        static SWEPT: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let net = Net {
            name: format!("{PREFIX}{}-{number}", std::process::id()),
        };
        // From here on drop removes whatever there is.
        for place in PLACES {
            ip(&["netns", "add", &net.namespace(place)])?;
            net.ip(place, "link set lo up")?;
        }
        net.ip(Place::Switch, "link add br0 type bridge")?;
        let address = Place::Switch.address();
        net.ip(Place::Switch, &format!("address add {address}/24 dev br0"))?;
        net.ip(Place::Switch, "link set br0 up")?;
        for place in PLACES.into_iter().filter(|place| *place != Place::Switch) {
            net.plug_in(place)?;
        }
        Ok(net)
    }

    fn plug_in(&self, place: Place) -> Result<(), String> {
        let (port, namespace) = (place.label(), self.namespace(place));
        let veth = format!("link add {port} type veth peer name eth0 netns {namespace}");
        self.ip(Place::Switch, &veth)?;
        self.ip(Place::Switch, &format!("link set {port} master br0 up"))?;
        let address = place.address();
        self.ip(place, &format!("address add {address}/24 dev eth0"))?;
        self.ip(place, "link set eth0 up")
    }

    /// Pulls a worker's cable at the bridge, or plugs it in again. Nobody is told: no reset, no FIN.
    pub fn set_link(&self, worker: usize, up: bool) -> Result<(), String> {
        let port = Place::Worker(worker).label();
        let state = if up { "up" } else { "down" };
        self.ip(Place::Switch, &format!("link set {port} {state}"))
    }

    /// A program that will run in `place`. The process that is spawned becomes that program.
    pub fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place), program]);
        command
    }

    /// The processes in `place`.
    pub fn pids(&self, place: Place) -> Result<Vec<u32>, String> {
        pids(&self.namespace(place))
    }

    fn namespace(&self, place: Place) -> String {
        format!("{}-{}", self.name, place.label())
    }

    fn ip(&self, place: Place, words: &str) -> Result<(), String> {
        let namespace = self.namespace(place);
        let mut arguments = vec!["-n", &namespace];
        arguments.extend(words.split(' '));
        ip(&arguments).map(drop)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in PLACES {
            remove(&self.namespace(place));
        }
    }
}

/// Why no such network can be made here; `None` if it can.
pub fn obstacle() -> Option<&'static str> {
    static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
    OBSTACLE.get_or_init(|| Net::new().err()).as_deref()
}

/// Removes what tests left behind that were killed. Their process ids are in the names.
fn sweep() {
    let Ok(listed) = ip(&["netns", "list"]) else {
        return;
    };
    // Each line is a name, and sometimes a number in brackets.
    for name in listed.lines().filter_map(|line| line.split(' ').next()) {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !is_test(pid)) {
            remove(name);
        }
    }
}

/// Removes a namespace, if it is there, and every process in it.
fn remove(namespace: &str) {
    for pid in pids(namespace).unwrap_or_default() {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    let _ = ip(&["netns", "del", namespace]);
}

fn pids(namespace: &str) -> Result<Vec<u32>, String> {
    let listed = ip(&["netns", "pids", namespace])?;
    Ok(listed
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect())
}

/// Runs `ip`; returns what it printed.
fn ip(arguments: &[&str]) -> Result<String, String> {
    let what = format!("ip {}", arguments.join(" "));
    let ran = Command::new("ip").args(arguments).output();
    let Output {
        status,
        stdout,
        stderr,
    } = ran.map_err(|error| format!("{what}: {error}"))?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        return Err(format!("{what}: {}", stderr.trim()));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
