//! What a rule is made of. Each expression here works on the first register unless it says otherwise, and
//! ends the rule when it does not match.

use super::{NF_ACCEPT, NF_DROP, NFTA_DATA_VALUE};
use crate::netlink::attribute::{self, Attributes};

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFT_META_PROTOCOL: u32 = 1;
const NFT_META_PRIORITY: u32 = 2;
const NFT_META_IIF: u32 = 4;
const NFT_META_OIF: u32 = 5;
const NFT_META_L4PROTO: u32 = 16;

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;

const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
/// `NFT_BITWISE_MASK_XOR`.
const MASK_XOR: u32 = 0;

const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_SET_ID: u16 = 4;
const NFTA_LOOKUP_FLAGS: u16 = 5;
/// `NFT_LOOKUP_F_INV`.
const INVERTED: u32 = 1;

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
/// `NFT_GOTO`, -4.
const GOTO: u32 = u32::MAX - 3;

const NFTA_COUNTER_PACKETS: u16 = 2;

const NFTA_FWD_SREG_DEV: u16 = 1;

const NFTA_NG_DREG: u16 = 1;
const NFTA_NG_MODULUS: u16 = 2;
const NFTA_NG_TYPE: u16 = 3;
const NFTA_NG_OFFSET: u16 = 4;
/// `NFT_NG_INCREMENTAL`.
const INCREMENTAL: u32 = 0;

const NFTA_HASH_SREG: u16 = 1;
const NFTA_HASH_DREG: u16 = 2;
const NFTA_HASH_LEN: u16 = 3;
const NFTA_HASH_MODULUS: u16 = 4;
const NFTA_HASH_SEED: u16 = 5;
const NFTA_HASH_OFFSET: u16 = 6;
const NFTA_HASH_TYPE: u16 = 7;
/// `NFT_HASH_JENKINS`.
const JENKINS: u32 = 0;

const NFTA_BYTEORDER_SREG: u16 = 1;
const NFTA_BYTEORDER_DREG: u16 = 2;
const NFTA_BYTEORDER_OP: u16 = 3;
const NFTA_BYTEORDER_LEN: u16 = 4;
const NFTA_BYTEORDER_SIZE: u16 = 5;
/// `NFT_BYTEORDER_HTON`.
const HOST_TO_NETWORK: u32 = 1;

const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;

const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = Register::FIRST.number();

/// A place for values, of four bytes; a longer value takes those behind it too. There are 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(pub u32);

impl Register {
    /// The one that everything works on but what says otherwise.
    pub const FIRST: Self = Self(0);

    /// As netlink numbers it (`nft_parse_register` of net/netfilter/nf_tables_api.c): every fourth has a
    /// short number from the time when all had sixteen bytes.
    const fn number(self) -> u32 {
        if self.0.is_multiple_of(4) { self.0 / 4 + 1 } else { self.0 + 8 }
    }

    /// The one that has this number.
    fn from_number(number: u32) -> Option<Self> {
        (0..16).map(Self).find(|register| register.number() == number)
    }
}

/// How a register is compared (`enum nft_cmp_ops`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Comparison {
    /// `NFT_CMP_EQ`.
    Equal = 0,
    /// `NFT_CMP_NEQ`.
    Unequal = 1,
    /// `NFT_CMP_LT`.
    Below = 2,
    /// `NFT_CMP_LTE`.
    AtMost = 3,
    /// `NFT_CMP_GTE`.
    AtLeast = 5,
}

impl Comparison {
    const ALL: [Self; 5] = [Self::Equal, Self::Unequal, Self::Below, Self::AtMost, Self::AtLeast];
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

/// How a packet is refused (`enum nft_reject_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// `NFT_REJECT_TCP_RST`.
    Reset,
    /// `NFT_REJECT_ICMPX_UNREACH` with `NFT_REJECT_ICMPX_PORT_UNREACH`: of the IP version of the packet.
    PortUnreachable,
}

impl Refuse {
    const fn codes(self) -> (u32, u8) {
        match self {
            Self::Reset => (1, 0),
            Self::PortUnreachable => (2, 1),
        }
    }
}

/// A set, as an expression names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetName {
    /// Its name.
    pub name: String,
    /// Its number within the transaction that makes it; 0 where that is another one. The kernel does not
    /// tell it.
    pub id: u32,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads the EtherType.
    LoadProtocol,
    /// Loads the packet's priority.
    LoadPriority,
    /// Loads the index of the interface that the packet came in by.
    LoadInInterface,
    /// Loads the index of the interface that the packet leaves by.
    LoadOutInterface,
    /// Loads the number of the protocol that IP carries, behind all extension headers.
    LoadTransport(Register),
    /// Loads bytes of the packet: where they start, and how many.
    LoadBytes(Register, PacketHeader, u32, u32),
    /// Clears the bits of the register that these bytes do not have.
    And(Vec<u8>),
    /// Goes on only when the register compares so with these bytes.
    Compare(Comparison, Vec<u8>),
    /// Goes on only when this set holds what begins in the register.
    LookUp(SetName),
    /// Goes on only when this set does not hold it.
    LookUpMissing(SetName),
    /// Loads a number that goes up with each packet and starts again before it reaches this one.
    NumberPackets(u32),
    /// Loads Jenkins' hash of so many bytes from this register on, modulo the second number, with the
    /// third as its seed.
    Hash(Register, u32, u32, u32),
    /// Makes the four bytes of the register a number in network byte order, so that it can be compared.
    ToNetworkOrder,
    /// Counts the packets that come by; what is written starts at zero.
    Count(u64),
    /// Loads a number.
    LoadNumber(u32),
    /// Makes the register the packet's priority.
    SetPriority,
    /// Hands the packet to the interface whose index the register holds, which ends the rule.
    Forward,
    /// Goes on in that chain, and does not come back.
    GoTo(String),
    /// Lets the packet go its way.
    Accept,
    /// Throws it away.
    Drop,
    /// Throws it away and tells its sender.
    Reject(Refuse),
    /// Not one that is written here.
    Other(String),
}

impl Expression {
    fn name(&self) -> &str {
        match self {
            Self::LoadProtocol
            | Self::LoadPriority
            | Self::LoadInInterface
            | Self::LoadOutInterface
            | Self::LoadTransport(_)
            | Self::SetPriority => "meta",
            Self::LoadBytes(..) => "payload",
            Self::And(_) => "bitwise",
            Self::Compare(..) => "cmp",
            Self::LookUp(_) | Self::LookUpMissing(_) => "lookup",
            Self::NumberPackets(_) => "numgen",
            Self::Hash(..) => "hash",
            Self::ToNetworkOrder => "byteorder",
            Self::Count(_) => "counter",
            Self::LoadNumber(_) | Self::GoTo(_) | Self::Accept | Self::Drop => "immediate",
            Self::Forward => "fwd",
            Self::Reject(_) => "reject",
            Self::Other(name) => name,
        }
    }

    pub(super) fn write(&self) -> Attributes {
        let new = Attributes::new;
        let value = |bytes: &[u8]| new().bytes(NFTA_DATA_VALUE, bytes);
        let load = |key| new().big32(NFTA_META_KEY, key).big32(NFTA_META_DREG, NFT_REG_1);
        let look_up = |set: &SetName| {
            let named = new().big32(NFTA_LOOKUP_SREG, NFT_REG_1).text(NFTA_LOOKUP_SET, &set.name);
            if set.id == 0 { named } else { named.big32(NFTA_LOOKUP_SET_ID, set.id) }
        };
        let data = match self {
            Self::LoadProtocol => load(NFT_META_PROTOCOL),
            Self::LoadPriority => load(NFT_META_PRIORITY),
            Self::LoadInInterface => load(NFT_META_IIF),
            Self::LoadOutInterface => load(NFT_META_OIF),
            Self::SetPriority => {
                new().big32(NFTA_META_KEY, NFT_META_PRIORITY).big32(NFTA_META_SREG, NFT_REG_1)
            }
            Self::LoadTransport(register) => new()
                .big32(NFTA_META_KEY, NFT_META_L4PROTO)
                .big32(NFTA_META_DREG, register.number()),
            Self::LoadBytes(register, base, offset, length) => new()
                .big32(NFTA_PAYLOAD_DREG, register.number())
                .big32(NFTA_PAYLOAD_BASE, *base as u32)
                .big32(NFTA_PAYLOAD_OFFSET, *offset)
                .big32(NFTA_PAYLOAD_LEN, *length),
            Self::And(mask) => new()
                .big32(NFTA_BITWISE_SREG, NFT_REG_1)
                .big32(NFTA_BITWISE_DREG, NFT_REG_1)
                .big32(NFTA_BITWISE_OP, MASK_XOR)
                .big32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX))
                .nest(NFTA_BITWISE_MASK, &value(mask))
                .nest(NFTA_BITWISE_XOR, &value(&vec![0; mask.len()])),
            Self::Compare(how, bytes) => new()
                .big32(NFTA_CMP_SREG, NFT_REG_1)
                .big32(NFTA_CMP_OP, *how as u32)
                .nest(NFTA_CMP_DATA, &value(bytes)),
            Self::LookUp(set) => look_up(set),
            Self::LookUpMissing(set) => look_up(set).big32(NFTA_LOOKUP_FLAGS, INVERTED),
            Self::NumberPackets(modulus) => new()
                .big32(NFTA_NG_DREG, NFT_REG_1)
                .big32(NFTA_NG_MODULUS, *modulus)
                .big32(NFTA_NG_TYPE, INCREMENTAL)
                .big32(NFTA_NG_OFFSET, 0),
            Self::Hash(register, length, modulus, seed) => new()
                .big32(NFTA_HASH_SREG, register.number())
                .big32(NFTA_HASH_DREG, NFT_REG_1)
                .big32(NFTA_HASH_LEN, *length)
                .big32(NFTA_HASH_MODULUS, *modulus)
                .big32(NFTA_HASH_SEED, *seed)
                .big32(NFTA_HASH_OFFSET, 0)
                .big32(NFTA_HASH_TYPE, JENKINS),
            Self::ToNetworkOrder => new()
                .big32(NFTA_BYTEORDER_SREG, NFT_REG_1)
                .big32(NFTA_BYTEORDER_DREG, NFT_REG_1)
                .big32(NFTA_BYTEORDER_OP, HOST_TO_NETWORK)
                .big32(NFTA_BYTEORDER_LEN, 4)
                .big32(NFTA_BYTEORDER_SIZE, 4),
            Self::LoadNumber(number) => new()
                .big32(NFTA_IMMEDIATE_DREG, NFT_REG_1)
                .nest(NFTA_IMMEDIATE_DATA, &value(&number.to_ne_bytes())),
            Self::Forward => new().big32(NFTA_FWD_SREG_DEV, NFT_REG_1),
            Self::GoTo(chain) => {
                verdict(&new().big32(NFTA_VERDICT_CODE, GOTO).text(NFTA_VERDICT_CHAIN, chain))
            }
            Self::Accept => verdict(&new().big32(NFTA_VERDICT_CODE, NF_ACCEPT)),
            Self::Drop => verdict(&new().big32(NFTA_VERDICT_CODE, NF_DROP)),
            Self::Reject(how) => {
                let (kind, code) = how.codes();
                new().big32(NFTA_REJECT_TYPE, kind).bytes(NFTA_REJECT_ICMP_CODE, &[code])
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
        let is = |kind, wanted| (number(kind) == Some(wanted)).then_some(());
        Some(match name {
            "meta" => {
                match (number(NFTA_META_KEY)?, number(NFTA_META_DREG), number(NFTA_META_SREG)) {
                    (NFT_META_PROTOCOL, Some(NFT_REG_1), None) => Self::LoadProtocol,
                    (NFT_META_PRIORITY, Some(NFT_REG_1), None) => Self::LoadPriority,
                    (NFT_META_IIF, Some(NFT_REG_1), None) => Self::LoadInInterface,
                    (NFT_META_OIF, Some(NFT_REG_1), None) => Self::LoadOutInterface,
                    (NFT_META_L4PROTO, Some(register), None) => {
                        Self::LoadTransport(Register::from_number(register)?)
                    }
                    (NFT_META_PRIORITY, None, Some(NFT_REG_1)) => Self::SetPriority,
                    _ => return None,
                }
            }
            "payload" => {
                let base = [PacketHeader::Link, PacketHeader::Network, PacketHeader::Transport]
                    .into_iter()
                    .find(|base| number(NFTA_PAYLOAD_BASE) == Some(*base as u32))?;
                let (offset, length) = (number(NFTA_PAYLOAD_OFFSET)?, number(NFTA_PAYLOAD_LEN)?);
                let register = Register::from_number(number(NFTA_PAYLOAD_DREG)?)?;
                Self::LoadBytes(register, base, offset, length)
            }
            "bitwise" => {
                is(NFTA_BITWISE_SREG, NFT_REG_1)?;
                is(NFTA_BITWISE_DREG, NFT_REG_1)?;
                // Kernels before 5.6 do not say which operation: they have one.
                number(NFTA_BITWISE_OP)
                    .is_none_or(|operation| operation == MASK_XOR)
                    .then_some(())?;
                value(NFTA_BITWISE_XOR)?.iter().all(|byte| *byte == 0).then_some(())?;
                Self::And(value(NFTA_BITWISE_MASK)?.to_vec())
            }
            "cmp" => {
                is(NFTA_CMP_SREG, NFT_REG_1)?;
                let mut all = Comparison::ALL.into_iter();
                let how = all.find(|how| number(NFTA_CMP_OP) == Some(*how as u32))?;
                Self::Compare(how, value(NFTA_CMP_DATA)?.to_vec())
            }
            "lookup" => {
                is(NFTA_LOOKUP_SREG, NFT_REG_1)?;
                let set = SetName { name: find(NFTA_LOOKUP_SET).map(attribute::text)?, id: 0 };
                match number(NFTA_LOOKUP_FLAGS).unwrap_or(0) {
                    0 => Self::LookUp(set),
                    INVERTED => Self::LookUpMissing(set),
                    _ => return None,
                }
            }
            "numgen" => {
                is(NFTA_NG_DREG, NFT_REG_1)?;
                is(NFTA_NG_TYPE, INCREMENTAL)?;
                is(NFTA_NG_OFFSET, 0)?;
                Self::NumberPackets(number(NFTA_NG_MODULUS)?)
            }
            "hash" => {
                is(NFTA_HASH_DREG, NFT_REG_1)?;
                is(NFTA_HASH_TYPE, JENKINS)?;
                // Left out by the kernel when it is zero.
                (number(NFTA_HASH_OFFSET).unwrap_or(0) == 0).then_some(())?;
                Self::Hash(
                    Register::from_number(number(NFTA_HASH_SREG)?)?,
                    number(NFTA_HASH_LEN)?,
                    number(NFTA_HASH_MODULUS)?,
                    number(NFTA_HASH_SEED)?,
                )
            }
            "byteorder" => {
                is(NFTA_BYTEORDER_SREG, NFT_REG_1)?;
                is(NFTA_BYTEORDER_DREG, NFT_REG_1)?;
                is(NFTA_BYTEORDER_OP, HOST_TO_NETWORK)?;
                is(NFTA_BYTEORDER_LEN, 4)?;
                is(NFTA_BYTEORDER_SIZE, 4)?;
                Self::ToNetworkOrder
            }
            "counter" => Self::Count(find(NFTA_COUNTER_PACKETS).and_then(attribute::big64)?),
            "immediate" => match number(NFTA_IMMEDIATE_DREG)? {
                NFT_REG_1 => Self::LoadNumber(attribute::native32(value(NFTA_IMMEDIATE_DATA)?)?),
                NFT_REG_VERDICT => read_verdict(find(NFTA_IMMEDIATE_DATA)?)?,
                _ => return None,
            },
            "fwd" => {
                is(NFTA_FWD_SREG_DEV, NFT_REG_1)?;
                Self::Forward
            }
            "reject" => {
                let code = find(NFTA_REJECT_ICMP_CODE).and_then(|value| value.first().copied());
                let codes = (number(NFTA_REJECT_TYPE)?, code.unwrap_or(0));
                let mut all = [Refuse::Reset, Refuse::PortUnreachable].into_iter();
                Self::Reject(all.find(|how| how.codes() == codes)?)
            }
            _ => return None,
        })
    }

    /// Whether the kernel shows what was written; counters may have counted.
    pub fn shows(&self, written: &Self) -> bool {
        match (self, written) {
            (Self::Count(_), Self::Count(_)) => true,
            (Self::LookUp(read), Self::LookUp(written))
            | (Self::LookUpMissing(read), Self::LookUpMissing(written)) => {
                read.name == written.name
            }
            (read, written) => read == written,
        }
    }
}

fn verdict(verdict: &Attributes) -> Attributes {
    Attributes::new()
        .big32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
        .nest(NFTA_IMMEDIATE_DATA, &Attributes::new().nest(NFTA_DATA_VERDICT, verdict))
}

fn read_verdict(data: &[u8]) -> Option<Expression> {
    let verdict = attribute::find(data, NFTA_DATA_VERDICT)?;
    let chain = attribute::find(verdict, NFTA_VERDICT_CHAIN).map(attribute::text);
    match (attribute::find(verdict, NFTA_VERDICT_CODE).and_then(attribute::big32)?, chain) {
        (NF_ACCEPT, None) => Some(Expression::Accept),
        (NF_DROP, None) => Some(Expression::Drop),
        (GOTO, Some(chain)) => Some(Expression::GoTo(chain)),
        _ => None,
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
            Expression::LoadInInterface,
            Expression::LoadOutInterface,
            Expression::LoadTransport(Register::FIRST),
            Expression::LoadTransport(Register(5)),
            Expression::LoadBytes(Register::FIRST, PacketHeader::Link, 6, 6),
            Expression::LoadBytes(Register(5), PacketHeader::Network, 6, 1),
            Expression::LoadBytes(Register(12), PacketHeader::Transport, 0, 1),
            Expression::And(vec![0x12]),
            Expression::NumberPackets(3),
            Expression::Hash(Register(4), 40, 10_000, 0x0bad_cafe),
            Expression::ToNetworkOrder,
            Expression::Compare(Comparison::Below, 3000u32.to_be_bytes().to_vec()),
            Expression::LookUpMissing(SetName { name: "live".to_owned(), id: 0 }),
            Expression::GoTo("hit".to_owned()),
            Expression::Drop,
            Expression::Reject(Refuse::Reset),
            Expression::Reject(Refuse::PortUnreachable),
            Expression::Compare(Comparison::Unequal, vec![1, 2, 3, 4, 5, 6]),
            Expression::Compare(Comparison::Equal, vec![58]),
            Expression::Compare(Comparison::AtLeast, vec![133]),
            Expression::Compare(Comparison::AtMost, vec![0x86, 0xdd]),
            Expression::LookUp(SetName { name: "live".to_owned(), id: 0 }),
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
            name in "(meta|payload|bitwise|cmp|lookup|numgen|hash|byteorder|counter|immediate|fwd|reject)",
            bytes in proptest::collection::vec(any::<u8>(), 0..48),
        ) {
            let _ = Expression::read(&bytes);
            let _ = Expression::read_data(&name, &bytes);
        }
    }
}
