use super::{frame::tests::ipv4, *};

/// A packet with its number in it.
fn packet(number: u32) -> Vec<u8> {
    [vec![0; VNET_HEADER], ipv4(0, &number.to_be_bytes())].concat()
}
