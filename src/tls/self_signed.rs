//! A certificate of our own making, for a server that nobody gave one.
//!
//! Must stay true: it is made once and kept, since workers pin it (a new address makes no new one: a pin
//! asks for no name); key and certificate are one file, 0600, that is there as a whole or not at all; it
//! begins in 1970, where a machine without a clock battery wakes up, and never ends. Not here: which names
//! are the server's (`http`).

use super::PairFiles;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Names in one certificate at the most.
const NAMES_MAX: usize = 100;

/// Where the pair of this data directory is, or will be.
pub fn files(data_dir: &Path) -> PairFiles {
    let both = data_dir.join("tls").join("self-signed.pem");
    PairFiles { certificate: both.clone(), key: both }
}

/// The certificate alone, for others to copy.
pub fn public_copy(data_dir: &Path) -> PathBuf {
    data_dir.join("tls").join("certificate.pem")
}

/// Makes the pair for these names and addresses, unless it is there. Says whether it was made.
///
/// # Errors
/// It cannot be written.
pub fn ensure(data_dir: &Path, names: &[String]) -> Result<bool, String> {
    let pair = files(data_dir).certificate;
    if pair.exists() {
        return Ok(false);
    }
    let (certificate, key) =
        make(names).map_err(|error| format!("no certificate can be made: {error}"))?;
    let folder = data_dir.join("tls");
    let written = DirBuilder::new().recursive(true).mode(0o755).create(&folder).and_then(|()| {
        write(&public_copy(data_dir), 0o644, &certificate)?;
        write(&pair, 0o600, &format!("{key}{certificate}"))?;
        File::open(&folder)?.sync_all()
    });
    written.map(|()| true).map_err(|error| format!("{} cannot be written: {error}", pair.display()))
}

fn make(names: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.not_before = date_time_ymd(1970, 1, 1);
    // "No well-defined end" (RFC 5280 §4.1.2.5).
    params.not_after = date_time_ymd(9999, 12, 31);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(DnType::CommonName, "bloom-runtime");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A whole file, or none.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// What a certificate of this machine is for: these names, and every address that the kernel calls its
/// own. Each once.
pub fn names(host_names: &[String]) -> Vec<String> {
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut addresses: BTreeSet<IpAddr> = loopback.into();
    addresses.extend(local_v4(&v4).map(IpAddr::V4).chain(local_v6(&v6).map(IpAddr::V6)));
    let mut names: Vec<String> = Vec::new();
    for name in host_names.iter().cloned().chain(addresses.iter().map(IpAddr::to_string)) {
        if name.is_ascii() && !names.contains(&name) && names.len() < NAMES_MAX {
            names.push(name);
        }
    }
    names
}

/// The addresses of `/proc/net/fib_trie`: each stands on the line before its `/32 host LOCAL`.
fn local_v4(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let lines = table.lines().zip(table.lines().skip(1));
    let hosts = lines.filter(|(_, kind)| kind.trim() == "/32 host LOCAL");
    hosts.filter_map(|(address, _)| address.trim().strip_prefix("|-- ")?.parse().ok())
}

/// The addresses of `/proc/net/if_inet6`, without those of one link, which nobody can write in a URL.
fn local_v6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    let words = table.lines().filter_map(|line| line.split_whitespace().next());
    let addresses = words.filter_map(|digits| u128::from_str_radix(digits, 16).ok());
    addresses.map(Ipv6Addr::from).filter(|address| !address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_tell_the_addresses_of_this_machine() {
        let table = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     \
                     |-- 192.168.1.0\n        /24 link UNICAST\n     |-- 192.168.1.10\n        \
                     /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link BROADCAST\n";
        let found: Vec<_> = local_v4(table).map(|address| address.to_string()).collect();
        assert_eq!(found, ["127.0.0.1", "192.168.1.10"]);
        let table = "fe80000000000000ba27ebfffe000001 02 40 20 80 eth0\n\
                     fd00000000000000000000000000000a 02 40 00 80 eth0\nnonsense\n";
        let found: Vec<_> = local_v6(table).map(|address| address.to_string()).collect();
        assert_eq!(found, ["fd00::a"]);
    }

    #[test]
    fn a_name_stands_in_a_certificate_once_and_loopback_always() {
        let names = names(&["pi".into(), "localhost".into(), "pi".into(), "127.0.0.1".into()]);
        assert_eq!(names[..2], ["pi", "localhost"]);
        for name in ["127.0.0.1", "::1"] {
            assert_eq!(names.iter().filter(|known| *known == name).count(), 1, "{names:?}");
        }
    }
}
