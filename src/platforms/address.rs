//! Guards the addresses that people give, so that nobody can make the hub call into its own network (SSRF).
//!
//! Two checks, because one is not enough: [`check_url`] reads the address as text and refuses literal addresses, and
//! [`Guard`] is the resolver of the HTTP client, so that the addresses a name stands for are checked at the moment of
//! connecting. A name that answers differently the second time (DNS rebinding) gains nothing by it.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hub_actors::domain::{SendError, SendFailure};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Longest address taken, in bytes.
pub const MAX_URL_BYTES: usize = 2000;

/// Why an address is refused. The text is meant for the person who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than [`MAX_URL_BYTES`].
    #[error("the address is longer than 2000 bytes")]
    TooLong,
    /// Not an absolute address with a host.
    #[error("not a complete address such as https://example.com/hook")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("the address must begin with http:// or https://")]
    Scheme,
    /// A user name or password in the address: it would end up in logs.
    #[error("the address must not contain a user name or password")]
    Credentials,
    /// A `#fragment`, which is never sent.
    #[error("the address must not contain a #fragment")]
    Fragment,
    /// Not an address of the public internet. The words name the kind of network.
    #[error("the address is not on the public internet ({0}), which this hub does not call")]
    Private(&'static str),
}

impl From<AddressError> for SendError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Private(_) => Self::new(SendFailure::ForbiddenAddress),
            _ => Self::with_detail(SendFailure::Refused, &error.to_string()),
        }
    }
}

/// Checks an address that a person gave, before it is stored and again before it is called.
///
/// # Errors
/// [`AddressError`] with the first thing that is wrong.
pub fn check_url(url: &str, allow_private: bool) -> Result<Url, AddressError> {
    if url.len() > MAX_URL_BYTES {
        return Err(AddressError::TooLong);
    }
    // The parser skips tabs and line breaks inside an address; what is stored should be what was meant.
    if url.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(AddressError::Malformed);
    }
    let parsed = Url::parse(url).map_err(|_| AddressError::Malformed)?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(AddressError::Scheme);
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(AddressError::Credentials);
    }
    if parsed.fragment().is_some() {
        return Err(AddressError::Fragment);
    }
    let host = parsed.host().ok_or(AddressError::Malformed)?;
    if parsed.port() == Some(0) {
        return Err(AddressError::Malformed);
    }
    if let Some(kind) = private_host(&host).filter(|kind| is_forbidden(kind, allow_private)) {
        return Err(AddressError::Private(kind));
    }
    Ok(parsed)
}

/// The kind of network, where the host names one without asking DNS.
fn private_host(host: &Host<&str>) -> Option<&'static str> {
    match host {
        Host::Ipv4(address) => private_v4(*address),
        Host::Ipv6(address) => private_v6(*address),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            // RFC 6761, section 6.3: these names stand for this machine, whatever DNS says.
            (name == "localhost" || name.ends_with(".localhost")).then_some("loopback")
        }
    }
}

/// The kind of network of an address that is not on the public internet; none for a public one.
pub fn private_kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => private_v4(address),
        IpAddr::V6(address) => private_v6(address),
    }
}

/// What no setting opens: nobody receives messages there, and whoever can call it holds the machine's own keys.
const LINK_LOCAL: &str = "link-local";
const METADATA: &str = "cloud metadata";

fn is_forbidden(kind: &str, allow_private: bool) -> bool {
    !allow_private || matches!(kind, LINK_LOCAL | METADATA)
}

/// IANA's IPv4 special-purpose registry (RFC 6890 and its updates), less what is globally reachable.
fn private_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        // Alibaba Cloud's and Oracle Cloud's; other clouds keep theirs on 169.254.169.254.
        [100, 100, 100, 200] | [192, 0, 0, 192] => Some(METADATA),
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [10, ..] | [192, 168, ..] => Some("private network"),
        [172, second, ..] if second & 0xf0 == 16 => Some("private network"),
        [100, second, ..] if second & 0xc0 == 64 => Some("carrier-grade NAT"),
        [169, 254, ..] => Some(LINK_LOCAL),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("documentation"),
        [192, 0, 0, _] | [192, 88, 99, _] => Some("reserved"),
        [198, second, ..] if second & 0xfe == 18 => Some("benchmarking"),
        [first, ..] if first >= 240 => Some("reserved"),
        [first, ..] if first >= 224 => Some("multicast"),
        _ => None,
    }
}

/// IANA's IPv6 special-purpose registry. Only 2000::/3 is given out to the public internet, so all else is refused,
/// apart from the two forms that carry a public IPv4 address.
fn private_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        // IPv4-mapped (RFC 4291) and NAT64 (RFC 6052): as reachable as the IPv4 address inside. DNS64 gives the
        // second form for every IPv4 host to a machine that has only IPv6.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 6to4 and Teredo lead to an IPv4 address of the sender's choice through relays that are gone (RFC 7526).
        [0x2002, ..] | [0x2001, 0, ..] => Some("tunnel"),
        // Amazon's.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Some(METADATA),
        [0x2001, 0xdb8, ..] => Some("documentation"),
        [0x3fff, second, ..] if second & 0xf000 == 0 => Some("documentation"),
        [0x2001, second, ..] if second < 0x200 => Some("reserved"),
        [first, ..] if first & 0xe000 == 0x2000 => None,
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("private network"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some(LINK_LOCAL),
        [first, ..] if first & 0xff00 == 0xff00 => Some("multicast"),
        _ => Some("reserved"),
    }
}

/// The name stands only for addresses that must not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name leads to an address that is not on the public internet ({0})")]
pub struct ForbiddenAddress(pub &'static str);

/// The resolver of the HTTP client: hands out only addresses that may be called.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// True where the operator has said that private networks may be called; link-local addresses never may.
    pub allow_private: bool,
}

impl Guard {
    /// The addresses that may be called.
    fn permit(self, addresses: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
        let mut refused = None;
        let permitted: Vec<SocketAddr> = addresses
            .filter(|address| {
                let kind = private_kind(address.ip()).filter(|kind| is_forbidden(kind, self.allow_private));
                refused = refused.or(kind);
                kind.is_none()
            })
            .collect();
        match refused {
            Some(kind) if permitted.is_empty() => Err(ForbiddenAddress(kind)),
            _ => Ok(permitted),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let boxed = |error: ForbiddenAddress| -> Box<dyn Error + Send + Sync> { Box::new(error) };
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Addrs = Box::new(guard.permit(addresses).map_err(boxed)?.into_iter());
            Ok(permitted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://0/",
            "http://0.0.0.0:9000/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://172.31.255.255/",
            "http://192.168.0.1/",
            "http://100.64.0.1/",
            "http://192.0.0.170/",
            "http://192.0.2.1/",
            "http://198.18.0.1/",
            "http://198.51.100.7/",
            "http://203.0.113.9/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b:1::8.8.8.8]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:1::]/",
            "http://[2001:db8::1]/",
            "http://[3fff:fff::1]/",
            "http://[fc00::1]/",
            "http://[fd12:3456::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://[5f00::1]/",
            "http://localhost:3000/",
            "http://LOCALHOST./",
            "http://hub.localhost/",
            "http://127。0。0。1/",
        ] {
            assert!(matches!(check_url(url, false), Err(AddressError::Private(_))), "{url}");
            assert!(check_url(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_machine_s_own_keys_are_out_of_reach_whatever_is_allowed() {
        for url in [
            "http://169.254.169.254/latest/meta-data/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://192.0.0.192/",
        ] {
            for allow_private in [false, true] {
                let checked = check_url(url, allow_private);
                assert!(matches!(checked, Err(AddressError::Private(_))), "{url}");
            }
        }
        let open = Guard { allow_private: true };
        let metadata = SocketAddr::from(([169, 254, 169, 254], 0));
        assert_eq!(open.permit([metadata].into_iter()), Err(ForbiddenAddress(LINK_LOCAL)));
    }

    #[test]
    fn public_addresses_pass() {
        for url in [
            "https://example.com/hook?token=1",
            "http://8.8.8.8:8080/",
            "http://172.32.0.1/",
            "http://100.128.0.1/",
            "http://[2606:4700::1111]/",
            "http://[::ffff:8.8.8.8]/",
            "http://[64:ff9b::8.8.8.8]/",
            "https://bücher.example/",
        ] {
            assert!(check_url(url, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn malformed_addresses_say_what_is_wrong() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL_BYTES));
        for (url, error) in [
            ("", AddressError::Malformed),
            ("example.com/hook", AddressError::Malformed),
            ("https://", AddressError::Malformed),
            ("https://exa mple.com/", AddressError::Malformed),
            ("https://example.com/\n", AddressError::Malformed),
            ("https://example.com:99999/", AddressError::Malformed),
            ("https://example.com:0/", AddressError::Malformed),
            ("ftp://example.com/", AddressError::Scheme),
            ("file:///etc/passwd", AddressError::Scheme),
            ("javascript:alert(1)", AddressError::Scheme),
            ("https://user:secret@example.com/", AddressError::Credentials),
            ("https://example.com/#part", AddressError::Fragment),
            (long.as_str(), AddressError::TooLong),
        ] {
            assert_eq!(check_url(url, true), Err(error), "{url}");
        }
    }

    #[test]
    fn a_name_leads_only_to_permitted_addresses() {
        let address = |text: &str| SocketAddr::new(text.parse().expect("an address"), 0);
        let guard = Guard { allow_private: false };
        let mixed = [address("10.0.0.1"), address("8.8.8.8")];
        assert_eq!(guard.permit(mixed.into_iter()), Ok(vec![address("8.8.8.8")]));
        let private = [address("::1"), address("127.0.0.1")];
        assert_eq!(guard.permit(private.into_iter()), Err(ForbiddenAddress("loopback")));
        let open = Guard { allow_private: true };
        assert_eq!(open.permit(private.into_iter()), Ok(private.to_vec()));
    }

    #[tokio::test]
    async fn the_resolver_refuses_what_the_text_does_not_show() {
        let guard = Guard { allow_private: false };
        let name = "localhost".parse().expect("a name");
        let error = guard.resolve(name).await.err().expect("localhost is loopback");
        assert_eq!(error.downcast_ref(), Some(&ForbiddenAddress("loopback")));
    }
}
