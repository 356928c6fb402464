//! What libpq understands, the relay understands; what it does not, it refuses by name.

use super::*;

fn parse_in(
    text: &str,
    environment: &[(&str, &str)],
    passfile: Option<&str>,
) -> Result<ConnInfo, ConnInfoError> {
    let lookup = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    ConnInfo::parse(text, &lookup, &|_| passfile.map(str::to_owned))
}

fn parse(text: &str) -> ConnInfo {
    parse_in(text, &[], None).unwrap()
}

fn error(text: &str) -> String {
    parse_in(text, &[("USER", "me")], None).unwrap_err().to_string()
}

fn hosts(info: &ConnInfo) -> String {
    info.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn password(info: &ConnInfo) -> Option<&str> {
    info.hosts[0].password.as_ref().map(Secret::reveal)
}

#[test]
fn a_url_with_everything() {
    let info = parse(
        "postgres://rel%40y:p%3Aw%2F%25@h1:5432,h2:5433/sh%20op?application_name=a%26b&connect_timeout=3\
         &target_session_attrs=read-write&options=-c%20wal_sender_timeout%3D4s&keepalives_idle=30\
         &keepalives_interval=5&keepalives_count=3&tcp_user_timeout=1500&sslmode=prefer&channel_binding=disable",
    );
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("rel@y", "sh op"));
    assert_eq!(password(&info), Some("p:w/%"));
    assert_eq!(hosts(&info), "h1:5432 h2:5433");
    assert_eq!(info.application_name, "a&b");
    assert_eq!(info.options.as_deref(), Some("-c wal_sender_timeout=4s"));
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(info.target_session_attrs, TargetSessionAttrs::ReadWrite);
    let keepalives = info.keepalives.unwrap();
    assert_eq!(keepalives.idle, Some(Duration::from_secs(30)));
    assert_eq!((keepalives.interval, keepalives.count), (Some(Duration::from_secs(5)), Some(3)));
    assert_eq!(info.tcp_user_timeout, Some(Duration::from_millis(1500)));
}

#[test]
fn hosts_are_read_as_libpq_reads_them() {
    for (text, expected) in [
        ("postgresql://u@", "localhost:5432"),
        ("postgres://u@/db", "localhost:5432"),
        ("postgres://u@:6000/db", "localhost:6000"),
        ("postgres://u@[::1]:6000/db", "[::1]:6000"),
        ("postgres://u@[::1],h2/db", "[::1]:5432 h2:5432"),
        ("postgres://u@h1,h2:6000,h3/db", "h1:5432 h2:6000 h3:5432"),
        ("postgres://u@%2Frun%2Fpg:6000/db", "/run/pg/.s.PGSQL.6000"),
        ("postgres://u@/db?host=/run/pg&port=6000", "/run/pg/.s.PGSQL.6000"),
        ("postgres://u@h1/db?host=h2", "h2:5432"),
        ("host=h1,h2 port=6000 user=u", "h1:6000 h2:6000"),
        ("host=h1,,/s port=6000,,6001 user=u", "h1:6000 localhost:5432 /s/.s.PGSQL.6001"),
        ("user=u", "localhost:5432"),
    ] {
        assert_eq!(hosts(&parse(text)), expected, "{text}");
    }
    assert!(error("host=h1,h2,h3 port=1,2").contains("2 ports for 3 hosts"));
}

#[test]
fn words_follow_libpqs_quoting() {
    let info = parse(r" user = u\ v password='it\'s \\ mine'  dbname='' application_name='' host=h ");
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("u v", "u v"));
    assert_eq!(password(&info), Some(r"it's \ mine"));
    assert_eq!(info.application_name, "outbox_relay");
    assert_eq!(parse("user=a user=b").user, "b", "the last one counts");
    assert!(error("user=u password='never ends").contains("item 2 has no end"));
    assert!(error("localhost").contains("has no \"=\""));
}

#[test]
fn what_is_left_open_comes_from_the_environment() {
    let environment = [
        ("PGHOST", "db.example"),
        ("PGPORT", "6000"),
        ("PGUSER", "relay"),
        ("PGDATABASE", "shop"),
        ("PGPASSWORD", "s3cret"),
        ("USER", "somebody"),
    ];
    let info = parse_in("postgres://", &environment, None).unwrap();
    assert_eq!(hosts(&info), "db.example:6000");
    assert_eq!((info.user.as_str(), info.dbname.as_str()), ("relay", "shop"));
    assert_eq!(password(&info), Some("s3cret"));
    let info = parse_in("postgres://me:mine@h:1/db", &environment, None).unwrap();
    assert_eq!((hosts(&info).as_str(), password(&info)), ("h:1", Some("mine")));
    assert_eq!(parse_in("host=h", &[("USER", "somebody")], None).unwrap().user, "somebody");
    assert!(parse_in("host=h", &[], None).unwrap_err().to_string().contains("names no user"));
    let refused = parse_in("user=u", &[("PGSSLMODE", "require")], None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "connection string: sslmode (from PGSSLMODE)=require is not supported yet"
    );
}

#[test]
fn what_does_not_work_yet_is_refused() {
    for (text, expected) in [
        ("sslmode=require", "sslmode=require is not supported yet"),
        ("sslmode=verify-full", "sslmode=verify-full is not supported yet"),
        ("postgres://h/db?ssl=true", "sslmode=require is not supported yet"),
        ("sslrootcert=/ca.pem", "sslrootcert is not supported yet"),
        ("sslcert=/c.pem", "sslcert is not supported yet"),
        ("target_session_attrs=standby", "target_session_attrs=standby is not supported yet"),
        ("channel_binding=require", "channel_binding=require is not supported yet"),
        ("hostaddr=10.0.0.1", "hostaddr is not supported yet"),
        ("service=x", "service is not supported yet"),
        ("host=@abstract", "abstract namespace (host=@…) is not supported yet"),
        ("sslmode=sometimes", "sslmode: expected one of disable, allow, prefer, require"),
        ("replication=true", "replication: the relay sets it itself"),
        ("connect_timeout=soon", "connect_timeout: expected a whole number"),
        ("port=0", "host 1 is not a number from 1 to 65535"),
        ("port=65536", "host 1 is not a number from 1 to 65535"),
        ("aplication_name=x", "\"aplication_name\"\n\nhint: did you mean \"application_name\"?"),
        ("postgres://h/db?sslmod=disable", "hint: did you mean \"sslmode\"?"),
        ("postgres://h/db?schema=public", "unknown parameter \"schema\""),
        ("postgres://h/db?x", "parameter 1 after the \"?\" has no \"=\""),
        ("postgres://h%zz/db", "two hexadecimal digits"),
        ("postgres://h/d%00b", "contains %00"),
        ("postgres://h/%ff", "not UTF-8"),
        ("postgres://[::1/db", "\"[\" without \"]\""),
        ("postgres://[::1]x/db", "goes on after its \"]\""),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(
        parse("user=u sslmode=disable gssencmode=prefer load_balance_hosts=disable").keepalives.is_some()
    );
    assert!(parse("user=u keepalives=0").keepalives.is_none());
    assert_eq!(parse("user=u connect_timeout=0").connect_timeout, None);
    assert_eq!(parse("user=u").connect_timeout, Some(DEFAULT_CONNECT_TIMEOUT));
    assert_eq!(parse("user=u tcp_user_timeout=0").tcp_user_timeout, None);
    assert_eq!(parse("user=u").tcp_user_timeout, Some(Duration::from_secs(30)));
    let left_to_the_system =
        parse("user=u keepalives_idle=0 keepalives_interval=0 keepalives_count=0").keepalives;
    assert_eq!(left_to_the_system, Some(Keepalives::default()));
    assert_eq!(
        parse("user=u").keepalives,
        Some(Keepalives {
            idle: Some(Duration::from_secs(10)),
            interval: Some(Duration::from_secs(5)),
            count: Some(4)
        })
    );
}

#[test]
fn no_piece_of_a_password_is_ever_printed() {
    for text in [
        "postgres://u:hunter2@h:x/db",
        "postgres://u:hunter/2@h/db",
        "postgres://u:12/hunter2@h/db",
        "postgres://u:12?hunter2=x@h/db",
        "postgres://u:h@hunter2/db?host=x@y",
        "postgres://u:h@hunter2@h/db",
        "postgres://u:hunter2%@h/db",
        "postgres://u:hunter2%ff@h/db",
        "postgres://h/db?password=hunter2&x",
        "user=u password=pass hunter2",
        "user=u password=pass hunter2=x",
        "user=u password='hunter2",
        "user=u password=hunter2 prot=1",
        "password=hunter2",
    ] {
        let error = parse_in(text, &[], None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"), "{text}: {error}");
    }
    let info = parse_in("user=u password=hunter2", &[], None).unwrap();
    assert!(!format!("{info:?} {:?}", info.control_config()).contains("hunter2"));
}

#[test]
fn no_string_makes_the_parser_panic() {
    let whole = "postgres://ü:p%3Aw@[::1]:5432,h2:5433/db?host=/x&a=%C3%BC user='\\' = \u{1F600}";
    for start in whole.char_indices().map(|(at, _)| at) {
        for (end, _) in whole.char_indices().filter(|(end, _)| *end >= start) {
            let _ = parse_in(&whole[start..end], &[("PGUSER", "u")], Some(&whole[start..end]));
        }
    }
}

#[test]
fn the_password_file_is_read_as_libpq_reads_it() {
    let content = "# h1:*:*:*:comment\n\
                   h1:5432:shop:other:no\n\
                   h1:5433:*:relay:port 5433\n\
                   h1:*:sh\\:op:relay:a\\:b\\\\c:ignored\r\n\
                   [bad\n\
                   localhost:*:*:*:local\n\
                   /srv/pg:*:*:*:socket\n\
                   *:*:*:*:any";
    for (text, expected) in [
        ("host=h1 user=relay dbname=sh:op", "a:b\\c"),
        ("host=h1 port=5433 user=relay", "port 5433"),
        ("host=h1 user=x", "any"),
        ("host=/srv/pg user=x", "socket"),
        ("host=/var/run/postgresql user=x", "local"),
        ("user=x", "local"),
        ("user=x password=given", "given"),
    ] {
        let info = parse_in(text, &[("PGPASSFILE", "/pgpass")], Some(content)).unwrap();
        assert_eq!(password(&info), Some(expected), "{text}");
    }
}

#[test]
fn each_host_has_its_own_password_from_the_file() {
    // Without PGPASSFILE and HOME there is no file to look for.
    assert_eq!(password(&parse_in("user=x", &[], Some("*:*:*:*:any")).unwrap()), None);
    let environment = [("HOME", "/users/x")];
    let info = parse_in("host=h1,h2 user=x", &environment, Some("h1:*:*:*:one\nh2:*:*:*:two")).unwrap();
    let passwords: Vec<_> = info.hosts.iter().map(|host| host.password.as_ref().unwrap().reveal()).collect();
    assert_eq!(passwords, ["one", "two"]);
    let second = info.at(&info.hosts[1]).control_config();
    assert_eq!(second.get_password(), Some(&b"two"[..]));
    assert_eq!(second.get_hosts(), [tokio_postgres::config::Host::Tcp("h2".to_owned())]);
}

#[test]
fn the_password_files_place_and_its_permissions_are_libpqs() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".pgpass");
    assert_eq!(read_passfile(&path), None, "no file, no password");
    std::fs::write(&path, "*:*:*:*:any").unwrap();
    let read_with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let home = dir.path().display().to_string();
        let environment = |name: &str| (name == "HOME").then(|| home.clone());
        let info = ConnInfo::parse("user=x", &environment, &read_passfile).unwrap();
        password(&info).map(str::to_owned)
    };
    assert_eq!(read_with_mode(0o600).as_deref(), Some("any"));
    assert_eq!(read_with_mode(0o640), None);
    assert_eq!(read_with_mode(0o604), None);
    assert_eq!(read_passfile(dir.path()), None, "a directory");
    let named = parse_in("user=x passfile=/secrets/pg", &[], Some("*:*:*:*:any")).unwrap();
    assert_eq!(password(&named), Some("any"));
}

#[test]
fn the_control_connection_gets_the_same() {
    let info = parse(
        "host=h1,/s port=1,2 user=u password=p dbname=d application_name=a keepalives_count=4 options=-cx=y",
    );
    let config = info.control_config();
    assert_eq!(config.get_ports(), [1, 2]);
    assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("d")));
    assert_eq!((config.get_password(), config.get_options()), (Some(&b"p"[..]), Some("-cx=y")));
    assert_eq!((config.get_application_name(), config.get_keepalives_retries()), (Some("a"), Some(4)));
    assert_eq!(config.get_hosts().len(), 2);
}
