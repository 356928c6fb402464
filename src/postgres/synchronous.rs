//! Whether commits would wait for the relay.
//!
//! A server with `synchronous_standby_names` lets commits wait for walsenders by their `application_name`, logical ones
//! included. The relay confirms a position when Kafka has it, so commits would wait for Kafka.

/// Whether `setting`, the value of `synchronous_standby_names`, includes a walsender called `application_name`.
///
/// The forms are `a, b`, `2 (a, b)`, `FIRST 2 (a, b)` and `ANY 2 (a, b)`; names may be quoted, `*` is every name, and
/// case does not matter (PostgreSQL documentation, "synchronous_standby_names").
#[must_use]
pub fn includes(setting: &str, application_name: &str) -> bool {
    let names = match (setting.find('('), setting.rfind(')')) {
        (Some(open), Some(close)) => setting.get(open.saturating_add(1)..close).unwrap_or_default(),
        _ => setting,
    };
    names.split(',').map(str::trim).any(|name| {
        let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
        let name = quoted.map_or_else(|| name.to_owned(), |quoted| quoted.replace("\"\"", "\""));
        name == "*" || name.eq_ignore_ascii_case(application_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_our_name_in_every_form() {
        for setting in [
            "*",
            "outbox_relay",
            "a, Outbox_Relay",
            "1 (outbox_relay)",
            "FIRST 2 (a, \"outbox_relay\")",
            "any 1 (a,b , * )",
            // The server compares after the quotes are gone.
            "\"*\"",
        ] {
            assert!(includes(setting, "outbox_relay"), "{setting}");
        }
    }

    #[test]
    fn leaves_others_alone() {
        for setting in ["", "a", "outbox", "FIRST 1 (outbox_relay_2, b)"] {
            assert!(!includes(setting, "outbox_relay"), "{setting}");
        }
    }
}
