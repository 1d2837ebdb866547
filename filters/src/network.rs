//! Networks of addresses, as in `10.0.0.0/8`; an address by itself is one too.
//!
//! Owns their spelling, and what is in them. Knows nothing of what they are for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address, of which only the first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// The addresses that begin with the first so many bits of that one; `None`: they are more than it has, or others of
    /// its bits are set, which is a mistake more often than not.
    pub fn new(first: IpAddr, bits: u8) -> Option<Self> {
        let network = Self { first, bits };
        (bits <= width(first) && first.to_canonical() == first && network.is_even()).then_some(network)
    }

    /// Whether the address is one of them. One of IPv4 is the same when IPv6 carries it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.first) && self.prefix(address) == self.prefix(self.first)
    }

    fn prefix(&self, address: IpAddr) -> u128 {
        number(address).checked_shr(u32::from(width(address) - self.bits)).unwrap_or_default()
    }

    /// Whether no bit behind the first ones is set.
    fn is_even(&self) -> bool {
        let behind = width(self.first) - self.bits;
        number(self.first).trailing_zeros() >= u32::from(behind)
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().map_err(drop)?;
        let bits = match bits {
            None => width(first),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(drop)?,
            Some(_) => return Err(()),
        };
        Self::new(first, bits).ok_or(())
    }
}

/// As it is read.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.bits == width(self.first) { Ok(()) } else { write!(f, "/{}", self.bits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..], &["11.0.0.0", "::1", "a00::"][..]),
            ("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.6/31", &["192.0.2.6", "192.0.2.7"], &["192.0.2.5", "192.0.2.8"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]),
            ("::/0", &["::", "2001:db8::1"], &["192.0.2.1", "::ffff:192.0.2.1"]),
            ("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
        ] {
            let read: Network = network.parse().expect(network);
            assert_eq!(read.to_string(), network);
            for address in inside {
                assert!(read.contains(address.parse().unwrap()), "{address} in {network}");
            }
            for address in outside {
                assert!(!read.contains(address.parse().unwrap()), "{address} in {network}");
            }
        }
        assert_eq!("127.0.0.1/32".parse::<Network>().map(|network| network.to_string()), Ok("127.0.0.1".to_owned()));
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "::/129",
            "::1/64",
            "10.0.0/8",
            "localhost",
            "::ffff:10.0.0.0",
            "::ffff:0.0.0.0/96",
            "[::1]",
            "1.2.3.4:80",
            "10.0.0.0/300",
        ] {
            assert_eq!(text.parse::<Network>(), Err(()), "{text}");
        }
    }
}
