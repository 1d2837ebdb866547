//! Where an upstream may be: what kind of address a host leads to, and who may have it asked.
//!
//! Owns the ranges. Knows nothing of names: whoever looks one up passes what was found, and connects to nothing
//! else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One of the public network.
    Public,
    /// Where a cloud hands out the credentials of the machine that asks, and the rest of the link.
    Metadata,
    /// The machine itself.
    Loopback,
    /// `0.0.0.0` and `::`, which connect to the machine itself, and the rest of "this network".
    Unspecified,
    /// A private network (RFC 1918, RFC 4193).
    Private,
    /// A carrier's inside (RFC 6598).
    Shared,
    /// Many machines.
    Multicast,
    /// Anything else that is in IANA's special-purpose registries, or not given out at all.
    Reserved,
}

impl Class {
    /// What `address` is for. One that holds another (mapped, NAT64, 6to4) is for what that one is for.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

/// "a private address"
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Public => "a public address",
            Class::Metadata => "a metadata or link-local address",
            Class::Loopback => "a loopback address",
            Class::Unspecified => "an unspecified address",
            Class::Private => "a private address",
            Class::Shared => "a carrier's shared address",
            Class::Multicast => "a multicast address",
            Class::Reserved => "a reserved address",
        })
    }
}

/// How far a channel may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere but to metadata: who writes the configuration file may reach the rest without Weir.
    Declared,
    /// Into the public network alone.
    Public,
}

impl Reach {
    /// Whether it goes as far as an address of this class.
    pub const fn permits(self, class: Class) -> bool {
        match self {
            Reach::Declared => !matches!(class, Class::Metadata),
            Reach::Public => matches!(class, Class::Public),
        }
    }
}

/// Whether a host reads as a number without being an IPv4 address in its one form, such as `0177.0.0.1`,
/// `0x7f.1`, `2130706433` or `127.1`. Resolvers take these for addresses, and not all of them for the same.
/// <https://url.spec.whatwg.org/#ends-in-a-number-checker>
pub fn is_ambiguous(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let is_decimal = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hex = hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    (is_decimal || is_hex) && host.parse::<Ipv4Addr>().is_err()
}

/// AWS's, Azure's, Google's and others' at the link; Alibaba's, Oracle's and Azure's, which are elsewhere.
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
fn of_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [169, 254, ..] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Class::Metadata,
        [127, ..] => Class::Loopback,
        [0, ..] => Class::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [224..=239, ..] => Class::Multicast,
        // Protocol assignments, documentation, the former 6to4 anycast, benchmarks.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Class::Reserved
        }
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
fn of_v6(address: Ipv6Addr) -> Class {
    if let Some(class) = of_carried(address) {
        return class;
    }
    match address.segments() {
        // AWS's link-local services, and Google's.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Class::Metadata,
        [0xfe80..=0xfebf, ..] => Class::Metadata,
        // Unique local, and what was site-local before.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Class::Private,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Protocol assignments with Teredo, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Reserved,
        // All that is given out.
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The class of an address that stands for an IPv4 address, or for itself among those that could.
fn of_carried(address: Ipv6Addr) -> Option<Class> {
    let octets = address.octets();
    let at = |places: [usize; 4]| of_v4(Ipv4Addr::from(places.map(|place| octets[place])));
    let last = || at([12, 13, 14, 15]);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Class::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Class::Loopback),
        // Mapped (RFC 4291), translated (RFC 7915), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last()),
        // Compatible, which nothing is any more.
        [0, 0, 0, 0, 0, 0, ..] => Some(if last() == Class::Public { Class::Reserved } else { last() }),
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some(at([2, 3, 4, 5])),
        // NAT64 of a network's own (RFC 8215): where the other address stands is that network's choice
        // (RFC 6052, 2.2), and so is where it leads.
        [0x64, 0xff9b, 1, ..] => {
            let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
            let is_metadata = places.into_iter().any(|places| at(places) == Class::Metadata);
            Some(if is_metadata { Class::Metadata } else { Class::Private })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Class {
        Class::of(address.parse().unwrap_or_else(|e| panic!("{address}: {e}")))
    }

    #[test]
    fn every_range_has_its_class_from_its_first_address_to_its_last() {
        for (expected, addresses) in [
            (Class::Metadata, "169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 100.100.100.200 192.0.0.192"),
            (Class::Metadata, "168.63.129.16 fe80:: fe80::1 febf:ffff::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254"),
            (Class::Loopback, "127.0.0.0 127.0.0.1 127.255.255.255 ::1"),
            (Class::Unspecified, "0.0.0.0 0.0.0.1 0.255.255.255 ::"),
            (Class::Private, "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"),
            (Class::Private, "fc00:: fdff:ffff::1 fd00:ec1::254 fd00:ec3::254 fd20:ce::253 fec0:: feff::1"),
            (Class::Shared, "100.64.0.0 100.127.255.255 100.100.100.199 100.100.100.201"),
            (Class::Multicast, "224.0.0.0 239.255.255.255 ff00:: ff02::1 ffff:ffff::1"),
            (Class::Reserved, "192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.1 198.18.0.0 198.19.255.255"),
            (Class::Reserved, "198.51.100.0 203.0.113.255 240.0.0.0 255.255.255.254 255.255.255.255"),
            (Class::Reserved, "100:: 2001:: 2001:1ff::1 2001:db8::1 2001:10::1 3fff::1 3fff:fff::1 5f00::1 4000::1"),
            (Class::Reserved, "200::1 400::1 e000::1 fe00::1 fe7f::1 1fff::1"),
            (Class::Public, "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255"),
            (Class::Public, "128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255"),
            (
                Class::Public,
                "192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255",
            ),
            (Class::Public, "168.63.129.15 168.63.129.17 2000::1 2001:200::1 2001:4860::8888 2606:4700::1 3ffe::1"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(class(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn an_address_that_holds_another_is_for_what_that_one_is_for() {
        for (inner, expected) in [
            ("127.0.0.1", Class::Loopback),
            ("169.254.169.254", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("10.1.2.3", Class::Private),
            ("100.64.0.1", Class::Shared),
            ("0.0.0.1", Class::Unspecified),
            ("224.0.0.1", Class::Multicast),
            ("240.0.0.1", Class::Reserved),
            ("8.8.8.8", Class::Public),
        ] {
            let [a, b, c, d] = inner.parse::<Ipv4Addr>().unwrap().octets();
            for carrier in [
                format!("::ffff:{inner}"),
                format!("::ffff:0:{inner}"),
                format!("64:ff9b::{inner}"),
                format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
            ] {
                assert_eq!(class(&carrier), expected, "{carrier}");
            }
            if expected != Class::Public && inner != "0.0.0.1" {
                assert_eq!(class(&format!("::{inner}")), expected);
            }
            let own = if expected == Class::Metadata { Class::Metadata } else { Class::Private };
            for carrier in [
                format!("64:ff9b:1::{inner}"),
                format!("64:ff9b:1:{a:02x}{b:02x}:{c:02x}:{d:02x}00::"),
                format!("64:ff9b:1:{a:x}:{b:x}:{c:02x}{d:02x}::"),
                format!("64:ff9b:1:0:{a:x}:{b:02x}{c:02x}:{d:02x}00::"),
            ] {
                assert_eq!(class(&carrier), own, "{carrier}");
            }
        }
        assert_eq!(class("::8.8.8.8"), Class::Reserved, "nothing is at a compatible address");
    }

    #[test]
    fn who_declares_reaches_all_but_metadata_and_others_only_what_is_public() {
        let all = [
            Class::Public,
            Class::Metadata,
            Class::Loopback,
            Class::Unspecified,
            Class::Private,
            Class::Shared,
            Class::Multicast,
            Class::Reserved,
        ];
        for class in all {
            assert_eq!(Reach::Declared.permits(class), class != Class::Metadata, "{class}");
            assert_eq!(Reach::Public.permits(class), class == Class::Public, "{class}");
        }
    }

    #[test]
    fn a_number_that_is_no_plain_address_is_ambiguous() {
        for host in [
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f.1",
            "0X7F000001",
            "2130706433",
            "017700000001",
            "127.1",
            "127.0.1",
            "0",
            "127.0.0.01",
            "127.0.0.256",
            "127.0.0.1.",
            "1.2.3.4.5",
            "0x",
            "a.0x7f",
            "example.1",
            "999999999999",
        ] {
            assert!(is_ambiguous(host), "{host}");
        }
        for host in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "example.com",
            "1.example",
            "mock_1",
            "a1",
            "0x7g",
            "x0",
            "",
            ".",
            "localhost.",
            "127.0.0.1.nip.io",
            "abc",
            "0xabc.example",
        ] {
            assert!(!is_ambiguous(host), "{host}");
        }
    }
}
