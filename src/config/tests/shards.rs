//! `[shard]`: one of several relays.

use super::{LEAST, load_all, of_file, problems};

#[test]
fn a_shard_has_a_slot_and_a_publication_of_its_own() {
    let config = of_file("shard = { count = 4, index = \"1\" }");
    assert_eq!(
        (config.postgres.slot.as_str(), config.postgres.publication.as_str()),
        ("outbox_relay_4_1", "outbox_relay_4_1")
    );
    let parts = config.shard_parts();
    assert_eq!(parts.len(), 4);
    assert_eq!(parts[3], ("outbox_relay_4_3".to_owned(), "outbox_relay_4_3".to_owned()));
    let alone = of_file("shard = { count = 1, index = \"7\" }");
    assert_eq!((alone.shard_parts(), alone.postgres.slot.as_str()), (Vec::new(), "outbox_relay"));
}

#[test]
fn the_number_is_at_the_end_of_the_hosts_name() {
    let of = |host: &str| {
        let file = format!("{LEAST}shard.count = 12\n");
        load_all(&file, &[("HOSTNAME", host)], &[]).map(|config| config.shard.unwrap().shard.index)
    };
    assert_eq!((of("outbox-relay-0").unwrap(), of("relay-3-11").unwrap()), (0, 11));
    insta::assert_snapshot!(of("outbox-relay-12").unwrap_err(), @r#"
    1 problem in the configuration

      shard.index = "" (default): is taken from the end of the host's name, "outbox-relay-12", and that is no number from 0 to 11, as shard.count = 12 wants it
        hint: set it, or OUTBOX_RELAY_SHARD__INDEX; the pods of a StatefulSet have it at the end of their names
    "#);
    assert!(of("relay").is_err());
    let file = format!("{LEAST}shard.count = 12\n");
    let set = load_all(&file, &[("HOSTNAME", "relay"), ("OUTBOX_RELAY_SHARD__INDEX", "5")], &[]).unwrap();
    assert_eq!(set.shard.unwrap().shard.index, 5);
}

#[test]
fn what_does_not_go_together_with_shards_is_refused() {
    insta::assert_snapshot!(problems(&format!(r#"
        shard.count = 4
        shard.index = "4"
        postgres.backfill = true
        after_publish.action = "drop-partitions"
        postgres.slot = "{}"
        route.key = "{{a}}-{{b}}"
        tables."public.outbox".route.key = "{{aggregate_id|lower}}"
    "#, "x".repeat(60))), @r#"
    5 problems in the configuration

      after_publish.action = "drop-partitions" (relay.toml, line 7): knows no shards: in a partition are rows that another relay may not have sent
        hint: "delete" and "mark" go with shards; or let a job of your own drop old partitions

      postgres.backfill = true (relay.toml, line 6): knows no shards: with shard.count each relay would send all rows
        hint: let one relay without shards send them first, or use republish

      postgres.slot = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" (relay.toml, line 8): is too long: a shard's own has the layout behind it, and 63 bytes at most

      tables."public.outbox".route.key: is not made of one column, by which shard.count could divide the rows
        hint: name one column, without functions: "{aggregate_id}"

      shard.index = "4" (relay.toml, line 5): is no number from 0 to 3, as shard.count = 4 wants it
        hint: set it, or OUTBOX_RELAY_SHARD__INDEX; the pods of a StatefulSet have it at the end of their names
    "#);
    insta::assert_snapshot!(problems("shard.count = 0"), @"
    1 problem in the configuration

      shard.count = 0 (relay.toml, line 3): must be 1 to 64
    ");
    insta::assert_snapshot!(problems("shard.count = 2\noutbox.source = \"poll\"\nafter_publish.action = \"mark\"\nshard.index = \"0\""), @r#"
    1 problem in the configuration

      shard.count = 2 (relay.toml, line 3): needs outbox.source = "wal": row filters of publications divide the rows
    "#);
}
