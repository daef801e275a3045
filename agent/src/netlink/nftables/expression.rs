//! What a rule is made of. Each expression here works on register 1, and ends the rule when it does
//! not match.

use super::{NF_ACCEPT, NFTA_DATA_VALUE, SET_ID};
use crate::netlink::attribute::{self, Attributes};

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFT_META_PROTOCOL: u32 = 1;
const NFT_META_PRIORITY: u32 = 2;

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;

const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_SET_ID: u16 = 4;

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

const NFTA_COUNTER_PACKETS: u16 = 2;

const NFTA_FWD_SREG_DEV: u16 = 1;

const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;

/// How a register is compared (`enum nft_cmp_ops`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Comparison {
    /// `NFT_CMP_EQ`.
    Equal = 0,
    /// `NFT_CMP_NEQ`.
    Unequal = 1,
    /// `NFT_CMP_LTE`.
    AtMost = 3,
    /// `NFT_CMP_GTE`.
    AtLeast = 5,
}

/// A header of the packet (`enum nft_payload_bases`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PacketHeader {
    /// Ethernet.
    Link = 0,
    /// IPv4 or IPv6.
    Network = 1,
    /// TCP, UDP, ICMP, …; a packet without one does not match.
    Transport = 2,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads the EtherType.
    LoadProtocol,
    /// Loads the packet's priority.
    LoadPriority,
    /// Loads bytes of the packet: where they start, and how many.
    LoadBytes(PacketHeader, u32, u32),
    /// Goes on only when the register compares so with these bytes.
    Compare(Comparison, Vec<u8>),
    /// Goes on only when this set holds the register.
    LookUp(String),
    /// Counts the packets that come by; what is written starts at zero.
    Count(u64),
    /// Loads a number.
    LoadNumber(u32),
    /// Makes the register the packet's priority.
    SetPriority,
    /// Hands the packet to the interface whose index the register holds, which ends the rule.
    Forward,
    /// Lets the packet go its way.
    Accept,
    /// Not one that is written here.
    Other(String),
}

impl Expression {
    fn name(&self) -> &str {
        match self {
            Self::LoadProtocol | Self::LoadPriority | Self::SetPriority => "meta",
            Self::LoadBytes(..) => "payload",
            Self::Compare(..) => "cmp",
            Self::LookUp(_) => "lookup",
            Self::Count(_) => "counter",
            Self::LoadNumber(_) | Self::Accept => "immediate",
            Self::Forward => "fwd",
            Self::Other(name) => name,
        }
    }

    pub(super) fn write(&self) -> Attributes {
        let new = Attributes::new;
        let value = |bytes: &[u8]| new().bytes(NFTA_DATA_VALUE, bytes);
        let data = match self {
            Self::LoadProtocol => {
                new().big32(NFTA_META_KEY, NFT_META_PROTOCOL).big32(NFTA_META_DREG, NFT_REG_1)
            }
            Self::LoadPriority => {
                new().big32(NFTA_META_KEY, NFT_META_PRIORITY).big32(NFTA_META_DREG, NFT_REG_1)
            }
            Self::SetPriority => {
                new().big32(NFTA_META_KEY, NFT_META_PRIORITY).big32(NFTA_META_SREG, NFT_REG_1)
            }
            Self::LoadBytes(base, offset, length) => new()
                .big32(NFTA_PAYLOAD_DREG, NFT_REG_1)
                .big32(NFTA_PAYLOAD_BASE, *base as u32)
                .big32(NFTA_PAYLOAD_OFFSET, *offset)
                .big32(NFTA_PAYLOAD_LEN, *length),
            Self::Compare(how, bytes) => new()
                .big32(NFTA_CMP_SREG, NFT_REG_1)
                .big32(NFTA_CMP_OP, *how as u32)
                .nest(NFTA_CMP_DATA, &value(bytes)),
            Self::LookUp(set) => new()
                .big32(NFTA_LOOKUP_SREG, NFT_REG_1)
                .text(NFTA_LOOKUP_SET, set)
                .big32(NFTA_LOOKUP_SET_ID, SET_ID),
            Self::LoadNumber(number) => new()
                .big32(NFTA_IMMEDIATE_DREG, NFT_REG_1)
                .nest(NFTA_IMMEDIATE_DATA, &value(&number.to_ne_bytes())),
            Self::Forward => new().big32(NFTA_FWD_SREG_DEV, NFT_REG_1),
            Self::Accept => {
                let verdict = new().big32(NFTA_VERDICT_CODE, NF_ACCEPT);
                new()
                    .big32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
                    .nest(NFTA_IMMEDIATE_DATA, &new().nest(NFTA_DATA_VERDICT, &verdict))
            }
            Self::Count(_) | Self::Other(_) => new(),
        };
        new().text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, &data)
    }

    /// Reads what the kernel shows of an expression.
    pub fn read(attributes: &[u8]) -> Self {
        let name =
            attribute::find(attributes, NFTA_EXPR_NAME).map(attribute::text).unwrap_or_default();
        let data = attribute::find(attributes, NFTA_EXPR_DATA).unwrap_or_default();
        Self::read_data(&name, data).unwrap_or(Self::Other(name))
    }

    fn read_data(name: &str, data: &[u8]) -> Option<Self> {
        let find = |kind| attribute::find(data, kind);
        let number = |kind| find(kind).and_then(attribute::big32);
        let value = |kind| attribute::find(find(kind)?, NFTA_DATA_VALUE);
        Some(match name {
            "meta" => {
                match (number(NFTA_META_KEY)?, number(NFTA_META_DREG), number(NFTA_META_SREG)) {
                    (NFT_META_PROTOCOL, Some(NFT_REG_1), None) => Self::LoadProtocol,
                    (NFT_META_PRIORITY, Some(NFT_REG_1), None) => Self::LoadPriority,
                    (NFT_META_PRIORITY, None, Some(NFT_REG_1)) => Self::SetPriority,
                    _ => return None,
                }
            }
            "payload" => {
                let base = [PacketHeader::Link, PacketHeader::Network, PacketHeader::Transport]
                    .into_iter()
                    .find(|base| number(NFTA_PAYLOAD_BASE) == Some(*base as u32))?;
                let (offset, length) = (number(NFTA_PAYLOAD_OFFSET)?, number(NFTA_PAYLOAD_LEN)?);
                let plain = number(NFTA_PAYLOAD_DREG) == Some(NFT_REG_1);
                plain.then_some(Self::LoadBytes(base, offset, length))?
            }
            "cmp" => {
                let how = [
                    Comparison::Equal,
                    Comparison::Unequal,
                    Comparison::AtMost,
                    Comparison::AtLeast,
                ];
                let how = how.into_iter().find(|how| number(NFTA_CMP_OP) == Some(*how as u32))?;
                let plain = number(NFTA_CMP_SREG) == Some(NFT_REG_1);
                plain.then_some(Self::Compare(how, value(NFTA_CMP_DATA)?.to_vec()))?
            }
            "lookup" => Self::LookUp(find(NFTA_LOOKUP_SET).map(attribute::text)?),
            "counter" => Self::Count(find(NFTA_COUNTER_PACKETS).and_then(attribute::big64)?),
            "immediate" => match number(NFTA_IMMEDIATE_DREG)? {
                NFT_REG_1 => Self::LoadNumber(attribute::native32(value(NFTA_IMMEDIATE_DATA)?)?),
                NFT_REG_VERDICT => {
                    let verdict = attribute::find(find(NFTA_IMMEDIATE_DATA)?, NFTA_DATA_VERDICT)?;
                    let code =
                        attribute::find(verdict, NFTA_VERDICT_CODE).and_then(attribute::big32);
                    (code == Some(NF_ACCEPT)).then_some(Self::Accept)?
                }
                _ => return None,
            },
            "fwd" => (number(NFTA_FWD_SREG_DEV) == Some(NFT_REG_1)).then_some(Self::Forward)?,
            _ => return None,
        })
    }

    /// Whether the kernel shows what was written; counters may have counted.
    pub fn shows(&self, written: &Self) -> bool {
        match (self, written) {
            (Self::Count(_), Self::Count(_)) => true,
            (read, written) => read == written,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for expression in [
            Expression::LoadProtocol,
            Expression::LoadBytes(PacketHeader::Link, 6, 6),
            Expression::LoadBytes(PacketHeader::Network, 6, 1),
            Expression::LoadBytes(PacketHeader::Transport, 0, 1),
            Expression::Compare(Comparison::Unequal, vec![1, 2, 3, 4, 5, 6]),
            Expression::Compare(Comparison::Equal, vec![58]),
            Expression::Compare(Comparison::AtLeast, vec![133]),
            Expression::Compare(Comparison::AtMost, vec![0x86, 0xdd]),
            Expression::LookUp("live".to_owned()),
            Expression::LoadNumber(0x7063_7063),
            Expression::LoadPriority,
            Expression::SetPriority,
            Expression::Forward,
            Expression::Accept,
        ] {
            assert_eq!(Expression::read(expression.write().as_bytes()), expression);
        }
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let limit = Attributes::new().text(NFTA_EXPR_NAME, "limit");
        assert_eq!(Expression::read(limit.as_bytes()), Expression::Other("limit".to_owned()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            name in "(meta|payload|cmp|lookup|counter|immediate|fwd)",
            bytes in proptest::collection::vec(any::<u8>(), 0..48),
        ) {
            let _ = Expression::read(&bytes);
            let _ = Expression::read_data(&name, &bytes);
        }
    }
}
