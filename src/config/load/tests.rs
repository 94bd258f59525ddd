//! Reading the sources, and the messages about problems.

use sha2::{Digest as _, Sha512};

use super::*;

fn with(settings: &[(&str, &str)]) -> Result<Config, Error> {
    let flags = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Sources {
        flags,
        ..Sources::default()
    }
    .load()
}

#[test]
fn the_embedded_defaults_are_valid() {
    let config = with(&[]).unwrap();
    assert_eq!(config.topology.prefix, "groupmq");
    assert_eq!(config.amqp.prefetch, 300);
}

#[test]
fn every_problem_is_named_by_key_and_never_by_value() {
    let Err(Error::Invalid(problems)) = with(&[
        ("amqp.url", "amqp//hunter2@nowhere"),
        ("amqp.prefetch", "many"),
        ("amqp.heartbeat", "10"),
        ("amqp.prefech", "1"),
        ("shutdown.deadline", "0s"),
        ("topology.mode", "maybe"),
    ]) else {
        panic!("wrong settings were accepted");
    };
    let all = problems.join("\n");
    for key in [
        "amqp.url",
        "amqp.prefetch",
        "amqp.heartbeat",
        "amqp.prefech",
        "shutdown.deadline",
        "topology.mode",
    ] {
        assert!(all.contains(&format!("{key}:")), "{key} is not in:\n{all}");
    }
    assert_eq!(problems.len(), 6, "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_password_of_digits_stays_text() {
    let config = with(&[("engine.sandbox.sessions.zero", "015550000009")]).unwrap();
    let Engine::Sandbox(sandbox) = config.engine else {
        panic!("another engine");
    };
    let phone = &sandbox.sessions[&"zero".parse().unwrap()];
    assert_eq!(phone.as_str(), "015550000009@c.us");
}

#[test]
fn printed_settings_hold_no_keys_and_no_passwords() {
    let sources = Sources {
        flags: vec![
            (
                "gateway.keys.shop.key".to_owned(),
                "hunter2hunter2hunter2".to_owned(),
            ),
            (
                "store.url".to_owned(),
                "postgres://u:hunter2@h/d".to_owned(),
            ),
            ("otlp.authorization".to_owned(), "Bearer hunter2".to_owned()),
        ],
        ..Sources::default()
    };
    let printed = sources.printed().unwrap();
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("[gateway.keys.shop]"), "{printed}");
}

#[test]
fn a_secret_is_read_from_the_file_that_is_named() {
    use secrecy::ExposeSecret;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "amqp://u:p@elsewhere/%2f\n").unwrap();
    let config = with(&[("amqp.url_file", file.to_str().unwrap())]).unwrap();
    assert_eq!(config.amqp.url.expose_secret(), "amqp://u:p@elsewhere/%2f");
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()));
    Sources {
        environment: environment.collect(),
        ..Sources::default()
    }
}

fn problems(loaded: Result<Config, Error>) -> Vec<String> {
    match loaded {
        Err(Error::Invalid(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn secrets_lose_the_line_break_behind_them_wherever_they_come_from() {
    use secrecy::ExposeSecret;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groupmq.toml");
    let toml = r#"
        [engine]
        kind = "waha"
        [engine.waha]
        api_key = "in-toml\n"
        [[webhooks]]
        url = "https://example.com/"
        hmac = { key = "signing \r\n" }
        secrets = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n"]
        customHeaders = [{ name = "X-Token", value = "token\n" }]
    "#;
    std::fs::write(&file, format!("\u{feff}{toml}")).unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "\u{feff}in-file \n").unwrap();
    let mut sources = environment(&[
        ("GROUPMQ_AMQP__URL", "amqp://u:p@h/%2f\n"),
        ("GROUPMQ_STORE__URL", "postgres://u:p@h/d\n"),
        ("GROUPMQ_EGRESS__PROXY", "http://u:p@proxy:3128\r\n"),
        ("GROUPMQ_OTLP__AUTHORIZATION", "Bearer t\n"),
        ("GROUPMQ_ENGINE__WAHA__INTAKE__ENABLED", "true\n"),
        ("GROUPMQ_ENGINE__WAHA__INTAKE__HMAC_KEY", "hmac\n"),
        ("GROUPMQ_ENGINE__WAHA__SERVERS__x__URL", "http://x\n"),
        ("GROUPMQ_ENGINE__WAHA__SERVERS__x__SESSIONS", "x\n"),
        ("GROUPMQ_ENGINE__WAHA__SERVERS__x__API_KEY", "of-x \n\n"),
        ("GROUPMQ_ENGINE__WAHA__SERVERS__y__URL", "http://y"),
        ("GROUPMQ_ENGINE__WAHA__SERVERS__y__SESSIONS", "y"),
        ("GROUPMQ_GATEWAY__KEYS__x__KEY", "correct horse battery\n"),
        ("GROUPMQ_GATEWAY__KEYS__x__SESSIONS", "*"),
        ("GROUPMQ_GATEWAY__KEYS__x__ACCESS", "read\n"),
    ]);
    let of_y = "GROUPMQ_ENGINE__WAHA__SERVERS__y__API_KEY_FILE".to_owned();
    sources.environment.push((of_y, key.into()));
    sources.file = Some(file);
    let config = sources.load().unwrap();
    assert_eq!(config.amqp.url.expose_secret(), "amqp://u:p@h/%2f");
    assert_eq!(config.store.url.expose_secret(), "postgres://u:p@h/d");
    let proxy = config.egress.proxy.unwrap();
    assert_eq!(proxy.expose_secret(), "http://u:p@proxy:3128");
    assert_eq!(
        config.otlp.authorization.unwrap().expose_secret(),
        "Bearer t"
    );
    let Engine::Waha(waha) = config.engine else {
        panic!("another engine");
    };
    assert_eq!(waha.intake.unwrap().hmac_key.expose_secret(), "hmac");
    let keys: Vec<_> = waha
        .servers
        .iter()
        .map(|it| it.api_key.expose_secret())
        .collect();
    assert_eq!(keys, ["of-x", "in-file", "in-toml"]);
    let hook = &config.webhooks[0].settings;
    assert_eq!(hook.hmac.as_ref().unwrap().key.as_str(), "signing");
    assert!(hook.secrets[0].as_str().ends_with("ob7oD"));
    assert_eq!(hook.custom_headers[0].value.as_str(), "token");
    let digest: [u8; 64] = Sha512::digest("correct horse battery").into();
    let keys: Vec<_> = config.gateway.keys.values().map(|it| it.digest).collect();
    assert_eq!(keys, [digest]);
}

#[test]
fn a_secret_that_cannot_be_sent_is_refused_by_its_key() {
    for key in [
        "amqp.url",
        "store.url",
        "egress.proxy",
        "otlp.authorization",
        "engine.waha.api_key",
        "engine.waha.servers.x.api_key",
        "engine.waha.intake.hmac_key",
        "gateway.keys.x.key",
    ] {
        let value = "http://hunter2-hunter2\nx: y";
        let problems = problems(with(&[(key, value)]));
        let own: Vec<_> = problems.iter().filter(|it| it.starts_with(key)).collect();
        assert_eq!(own.len(), 1, "{problems:?}");
        assert!(own[0].contains("control character"), "{problems:?}");
        assert!(!problems.join("").contains("hunter2"), "{problems:?}");
    }
    for key in ["otlp.authorization", "engine.waha.api_key"] {
        let said = problems(with(&[(key, "schl\u{fc}ssel")]));
        assert!(said[0].starts_with(&format!("{key}: ")), "{said:?}");
    }
    // The problem is reported for the file that holds the secret, and nothing is reported as missing.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "a\nb").unwrap();
    let key = [
        ("gateway.keys.x.key_file", file.to_str().unwrap()),
        ("gateway.keys.x.sessions", "*"),
        ("gateway.keys.x.access", "read"),
    ];
    let said = problems(with(&key));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("gateway.keys.x.key_file: "), "{said:?}");
}

#[test]
fn a_password_that_is_not_percent_encoded_is_named_as_such_and_not_shown() {
    for secret in [
        "hun#ter2",
        "hun?ter2",
        "hun/ter2",
        "hun@ter2",
        "12#hunter2",
        "12/hunter2",
        "hun@x/ter2",
    ] {
        for (key, scheme) in [
            ("amqp.url", "amqp"),
            ("amqp.url", "amqps"),
            ("store.url", "postgres"),
            ("egress.proxy", "http"),
            ("egress.proxy", "socks5h"),
            ("otlp.endpoint", "https"),
        ] {
            let url = format!("{scheme}://user:{secret}@example.com/x");
            let said = problems(with(&[(key, &url)]));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(&format!("{key}: ")), "{said:?}");
            assert!(said[0].contains("percent-encode the password"), "{said:?}");
            assert!(!said[0].contains("ter2"), "{said:?}");
            let flags = vec![(key.to_owned(), url)];
            let printed = Sources {
                flags,
                ..Sources::default()
            };
            assert!(!printed.printed().unwrap().contains("ter2"));
        }
        let waha = format!("http://user:{secret}@example.com/x");
        let said = problems(with(&[("engine.waha.url", &waha)]));
        assert!(said[0].contains("without credentials"), "{said:?}");
    }
    for good in [
        "amqp://user:hun%23%2F%3F%40ter2@example.com/%2f",
        "amqp://user@example.com/shop?heartbeat=10",
        "amqp://example.com",
    ] {
        assert!(with(&[("amqp.url", good)]).is_ok(), "{good}");
    }
    assert!(with(&[("store.url", "sqlite:///var/@/groupmq.db")]).is_ok());
}

#[test]
fn a_message_names_the_variable_as_it_was_written() {
    let said = problems(
        environment(&[
            ("GROUPMQ_PORT", "8080"),
            ("GROUPMQ_AMPQ__URL", "amqp://u:hunter2@h"),
            ("GROUPMQ_Amqp__PREFETCH", "many"),
            ("GROUPMQ_STORE__URL_FILE", "/nowhere/at/all"),
            ("GROUPMQ_ENGINE__SANDBOX__FAULTS__Shop__OUTAGE", "true"),
        ])
        .load(),
    );
    let all = said.join("\n");
    for (key, variable) in [
        ("port", "GROUPMQ_PORT"),
        ("ampq", "GROUPMQ_AMPQ__URL"),
        ("amqp.prefetch", "GROUPMQ_Amqp__PREFETCH"),
        ("store.url_file", "GROUPMQ_STORE__URL_FILE"),
        (
            "engine.sandbox.faults",
            "GROUPMQ_ENGINE__SANDBOX__FAULTS__Shop__OUTAGE",
        ),
    ] {
        let own = said.iter().find(|it| it.starts_with(&format!("{key}: ")));
        let own = own.unwrap_or_else(|| panic!("{key} is not in:\n{all}"));
        let end = format!("(from the environment: {variable})");
        assert!(own.ends_with(&end), "{own}");
    }
    assert_eq!(said.len(), 5, "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_variable_that_is_not_utf_8_is_named_and_does_not_panic() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut sources = environment(&[]);
    let value = OsString::from_vec(b"amqp://\xff".to_vec());
    sources
        .environment
        .push(("GROUPMQ_AMQP__URL".to_owned(), value));
    let said = problems(sources.load());
    assert_eq!(said, ["amqp.url: GROUPMQ_AMQP__URL is not UTF-8"]);
}
