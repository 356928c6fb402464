//! `relay`: whatever happens in whatever order, nothing is lost and the end is reached.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;
use crate::script::script;
use crate::session::World;

/// What may happen in and between sessions, in any order.
#[derive(Debug, Clone)]
enum Happening {
    /// So many bodies are read, as long as there is room.
    Read(u8),
    /// A keepalive; how far it goes, in thousandths, and whether it wants a reply.
    Keepalive(u64, bool),
    /// Kafka confirms one of the records in flight.
    Deliver(usize),
    /// Kafka confirms all that are not stuck, in any order.
    DeliverAll(usize),
    /// Kafka refuses one of the records in flight, and its dead letter goes out in its place.
    Bury(usize),
    /// The server is told the position.
    Status,
    /// The session breaks. Which records Kafka had stored without telling, and whether a last status arrived.
    Restart(u64, bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (1..6_u8).prop_map(Happening::Read),
        4 => (0..=1000_u64, any::<bool>()).prop_map(|(far, reply)| Happening::Keepalive(far, reply)),
        8 => any::<usize>().prop_map(Happening::Deliver),
        2 => any::<usize>().prop_map(Happening::DeliverAll),
        1 => any::<usize>().prop_map(Happening::Bury),
        3 => Just(Happening::Status),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(stored, status)| Happening::Restart(stored, status)),
    ]
}

proptest! {
    #![proptest_config(config("tests/regressions/relay.txt"))]

    #[test]
    fn nothing_is_lost_and_the_end_is_reached(
        script in script(),
        happenings in vec(happening(), 0..60),
        order in any::<usize>(),
    ) {
        let mut world = World::new(&script);
        for happening in happenings {
            match happening {
                Happening::Read(bodies) => {
                    for _ in 0..bodies {
                        world.read();
                    }
                }
                Happening::Keepalive(far, reply_requested) => world.keepalive(far, reply_requested),
                Happening::Deliver(choice) => {
                    world.deliver(choice, false);
                }
                Happening::DeliverAll(choice) => while world.deliver(choice, false) {},
                Happening::Bury(choice) => world.bury(choice),
                Happening::Status => world.status(),
                Happening::Restart(stored, status) => {
                    if status {
                        world.status();
                    }
                    world.restart(stored);
                }
            }
        }
        world.finish(order);
    }
}
