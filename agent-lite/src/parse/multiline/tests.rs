use super::*;
use proptest::prelude::*;

/// What a caller without bounds makes of the lines.
fn join<L: AsRef<[u8]>>(rule: &Rule, lines: impl IntoIterator<Item = L>) -> Vec<Vec<u8>> {
    let mut state = State::default();
    let (mut messages, mut pending) = (Vec::new(), None::<Vec<u8>>);
    for line in lines {
        let line = line.as_ref();
        match (rule.step(&mut state, line), &mut pending) {
            (Step::Continues, Some(pending)) => {
                pending.push(b'\n');
                pending.extend_from_slice(line);
            }
            (Step::Continues, None) => pending = Some(line.to_vec()),
            (Step::Begins, _) => messages.extend(pending.replace(line.to_vec())),
            (Step::Alone, _) => {
                messages.extend(pending.take());
                messages.push(line.to_vec());
            }
        }
    }
    messages.extend(pending);
    messages
}

/// Lines that no language's trace has a use for.
const ORDINARY: [&str; 12] = [
    "2025-10-26 10:15:30,123 INFO  [main] shop.Cart - 3 items",
    "INFO:     10.0.0.7:51034 - \"GET /healthz HTTP/1.1\" 200 OK",
    r#"{"level":"error","msg":"java.lang.Error: x","stack":"at a.b(C.java:1)"}"#,
    "10.0.0.7 - - [26/Oct/2025:10:15:30 +0000] \"GET / HTTP/1.1\" 500 13",
    "",
    "I1026 10:15:30.123456       1 main.go:42] ready",
    "time=2025-10-26T10:15:30Z level=warn msg=\"retrying\" errors=3 ErrorCount=0",
    "[2025-10-26T10:15:30Z] \"POST /pay HTTP/2\" 200 - 12 34",
    "at once all is well",
    "  continued with two spaces, but nothing was begun",
    "www.example.com: 3 requests",
    "Exceptions were none, panics neither",
];

/// Each trace between ordinary lines and next to others of its kind; one message each.
fn traces() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("java", "uncaught, with causes and suppressed", include_str!("tests/java.txt")),
        ("java", "spring, in a log line", include_str!("tests/java-logged.txt")),
        (
            "java",
            "a class without a mark in its name",
            "shop.payment.CardRefused: no such card\n\tat shop.payment.Till.charge(Till.java:7)",
        ),
        (
            "java",
            "postgres says more on lines of its own",
            "org.postgresql.util.PSQLException: ERROR: duplicate key value\n  Detail: Key (id)=(1) already exists.\n\tat org.postgresql.core.v3.QueryExecutorImpl.receive(QueryExecutorImpl.java:2725)\n\tat shop.Main.main(Main.java:3)",
        ),
        (
            "java",
            "frames whose beginning was not held",
            "\tat shop.Main.a(Main.java:3)\n\tat shop.Main.main(Main.java:4)\n\t... 12 more",
        ),
        (
            "python",
            "plain",
            "Traceback (most recent call last):\n  File \"/app/main.py\", line 9, in <module>\n    charge()\n    ~~~~~~^^\n  [Previous line repeated 996 more times]\nValueError: no card",
        ),
        ("python", "chained both ways", include_str!("tests/python-chained.txt")),
        ("python", "a group", include_str!("tests/python-group.txt")),
        (
            "python",
            "a thread's, with its announcement",
            "Exception in thread Thread-1 (work):\nTraceback (most recent call last):\n  File \"/usr/lib/python3.12/threading.py\", line 1073, in _bootstrap_inner\n    self.run()\nshop.errors.CardError: refused",
        ),
        (
            "python",
            "an interrupt without a message",
            "Traceback (most recent call last):\n  File \"main.py\", line 2, in <module>\n    time.sleep(9)\nKeyboardInterrupt",
        ),
        (
            "python",
            "a file that cannot be read as code",
            "  File \"/app/main.py\", line 3\n    def f(:\n          ^\nSyntaxError: invalid syntax",
        ),
        (
            "python",
            "after a time",
            "2025-10-26 10:15:30 ERROR Traceback (most recent call last):\n  File \"main.py\", line 2, in f\n    g()\nKeyError: 'card'",
        ),
        ("go", "a panic with a signal", include_str!("tests/go-panic.txt")),
        ("go", "several goroutines", include_str!("tests/go-deadlock.txt")),
        (
            "go",
            "a handler's",
            "2025/10/26 10:15:30 http: panic serving 10.0.0.7:51034: no card\ngoroutine 18 [running]:\nnet/http.(*conn).serve.func1()\n\t/usr/local/go/src/net/http/server.go:1854 +0xbf\npanic({0x6462e0, 0xc000012345})\n\t/usr/local/go/src/runtime/panic.go:890 +0x263\ncreated by net/http.(*Server).Serve in goroutine 1\n\t/usr/local/go/src/net/http/server.go:3086 +0x5cb",
        ),
        (
            "go",
            "a stack that overflowed",
            "runtime: goroutine stack exceeds 1000000000-byte limit\nruntime: sp=0xc0200e1390 stack=[0xc0200e0000, 0xc0400e0000]\nfatal error: stack overflow\n\nruntime stack:\nruntime.throw({0x4749a5?, 0x0?})\n\t/usr/local/go/src/runtime/panic.go:1047 +0x5d\n\ngoroutine 1 [running]:\nmain.f()\n\t/app/main.go:4 +0x39\n...additional frames elided...\nexit status 2",
        ),
        (
            "go",
            "recovered and raised again",
            "panic: no card [recovered]\n\tpanic: no card\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:9 +0x1d",
        ),
        (
            "ruby",
            "of version 3.3",
            "app.rb:3:in `/': divided by 0 (ZeroDivisionError)\n\tfrom app.rb:3:in `share'\n\tfrom app.rb:7:in `<main>'",
        ),
        (
            "ruby",
            "of version 3.4, with a cause",
            "/app/shop.rb:9:in 'Shop#pay': refused (Shop::CardRefused)\n\tfrom /app/shop.rb:14:in '<main>'\n/app/bank.rb:4:in 'Bank.ask': timed out (Net::ReadTimeout)\n\tfrom /app/shop.rb:8:in 'Shop#pay'\n\t ... 3 levels...",
        ),
        (
            "ruby",
            "by rails' logger",
            "ActionController::RoutingError (No route matches [GET] \"/x\"): Error\n/gems/actionpack/lib/action_dispatch/middleware/debug.rb:33:in `call'\nlib/own.rb:2:in `call'",
        ),
        (
            "ruby",
            "of version 2.5, upside down",
            "Traceback (most recent call last):\n\t2: from app.rb:7:in `<main>'\n\t1: from app.rb:3:in `share'\napp.rb:3:in `/': divided by 0 (ZeroDivisionError)",
        ),
        ("node", "async, with a cause and properties", include_str!("tests/node.txt")),
        (
            "node",
            "uncaught, with its place",
            "/app/index.js:3\nthrow new Error('no card');\n^\n\nError: no card\n    at Object.<anonymous> (/app/index.js:3:7)\n    at node:internal/main/run_main_module:23:47",
        ),
        (
            "node",
            "a rejection that nobody handled",
            "node:internal/process/promises:288\n            triggerUncaughtException(err, true /* fromPromise */);\n            ^\n\n[UnhandledPromiseRejection: This error originated either by throwing] {\n  code: 'ERR_UNHANDLED_REJECTION'\n}",
        ),
        (
            "node",
            "without frames",
            "[Error: ENOENT: no such file or directory, open '/x'] {\n  errno: -2,\n  code: 'ENOENT'\n}",
        ),
        ("dotnet", "inner exceptions", include_str!("tests/dotnet.txt")),
        (
            "dotnet",
            "an aggregate",
            "System.AggregateException: One or more errors occurred. (a)\n ---> System.Exception: a\n   at Shop.Main() in /src/Shop.cs:line 3\n   --- End of inner exception stack trace ---\n   at System.Threading.Tasks.Task.Wait()\n---> (Inner Exception #1) System.Exception: b<---",
        ),
        (
            "dotnet",
            "by the console logger",
            "fail: Microsoft.AspNetCore.Server.Kestrel[13]\n      An unhandled exception was thrown by the application.\n      System.InvalidOperationException: no card\r\n         at Shop.Pay() in /src/Shop.cs:line 12",
        ),
        (
            "pem",
            "a key",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIEowIBAAKCAQEAy8Dbv8prpJ/0kKhlGeJYozo2t60EG8L0561g13R29LvMR5hy\nvGZlGJpmn65+A4xHXInJYiPuKzrKUnApeLZ+vw1HocOAZtWK0z3r26uA8kQYOKX9\n-----END RSA PRIVATE KEY-----",
        ),
    ]
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
}

#[test]
fn every_trace_between_ordinary_lines_is_one_message() {
    for (language, name, trace) in traces() {
        let trace = trace.trim_end_matches('\n');
        for rule in [language, "auto"].map(|name| Rule::named(name).unwrap()) {
            for ordinary in ORDINARY.into_iter().filter(|line| !line.is_empty()) {
                let input = [ordinary, trace, ordinary, ordinary, trace];
                let joined = join(&rule, input.into_iter().flat_map(lines));
                let joined: Vec<_> = joined.iter().map(|message| String::from_utf8_lossy(message)).collect();
                // Indented lines after a trace are taken for more of it.
                if ordinary.starts_with(' ') && language != "go" && language != "pem" {
                    continue;
                }
                assert_eq!(joined, input, "{language}: {name}, {rule:?}");
            }
        }
    }
}

#[test]
fn ordinary_lines_go_at_once() {
    for name in NAMES {
        let rule = Rule::named(name).unwrap();
        let mut state = State::default();
        for _ in 0..2 {
            for line in ORDINARY {
                assert_eq!(rule.step(&mut state, line.as_bytes()), Step::Alone, "{name}: {line}");
                assert_eq!(state, State::default());
            }
        }
    }
}

#[test]
fn two_traces_in_a_row_are_two_messages() {
    for (language, name, trace) in traces() {
        let trace = trace.trim_end_matches('\n');
        // What has no beginning of its own, and chains of the same language, are told apart by nobody.
        if name.starts_with("frames")
            || name.starts_with("a file")
            || language == "ruby"
            || language == "go"
            || name.starts_with("a handler")
        {
            continue;
        }
        let rule = Rule::named("auto").unwrap();
        let joined = join(&rule, [trace, trace].into_iter().flat_map(lines));
        let joined: Vec<_> = joined.iter().map(|message| String::from_utf8_lossy(message)).collect();
        assert_eq!(joined, [trace, trace], "{language}: {name}");
    }
}

#[test]
fn an_ordinary_line_ends_a_trace_wherever_it_stands() {
    let ordinary = ORDINARY[0];
    let rule = Rule::named("auto").unwrap();
    for (language, name, trace) in traces() {
        let count = lines(trace).count();
        for at in 1..count {
            let (before, after): (Vec<_>, Vec<_>) = (lines(trace).take(at).collect(), lines(trace).skip(at).collect());
            let input = [&before[..], &[ordinary], &after].concat();
            let joined = join(&rule, &input);
            // After the place Node.js shows a line of the program, which can be any, and after an empty line what
            // happened, which can be anything too.
            if (name.contains("place") || name.contains("nobody handled")) && (at == 1 || at == 4) {
                continue;
            }
            assert!(joined.contains(&ordinary.as_bytes().to_vec()), "{language}: {name}, line {at}");
        }
    }
}

#[test]
fn a_start_pattern_takes_all_that_does_not_match() {
    let rule = Rule::starting(r"^\d{4}-").unwrap();
    let input = ["torn", "2025-1 a", "java.lang.Error: x", "\tat b", "", "2025-2 b", "2025-3 c", "{\"d\":1}"];
    let expected: [&[u8]; 4] =
        [b"torn", b"2025-1 a\njava.lang.Error: x\n\tat b\n", b"2025-2 b", b"2025-3 c\n{\"d\":1}"];
    assert_eq!(join(&rule, input), expected);
}

#[test]
fn rules_that_cannot_be_are_refused_with_the_reason() {
    let text = |rule: Result<Rule, RuleError>| rule.unwrap_err().to_string();
    assert!(text(Rule::named("jav")).contains("java, python"));
    assert!(text(Rule::starting("(")).contains("regular expression"));
    assert!(text(Rule::starting(r"(\w{500}){500}")).contains("regular expression"));
    assert!(text(Rule::starting(".*")).contains("every line"));
    assert!(Rule::starting("^$").is_ok());
}

#[test]
fn a_language_alone_does_not_join_the_others() {
    let java = Rule::named("java").unwrap();
    let go = "panic: no card\n\ngoroutine 1 [running]:\nmain.main()";
    assert_eq!(join(&java, lines(go)).len(), 4);
    let python = Rule::named("python").unwrap();
    assert_eq!(join(&python, ["x.y.Z: a", "\tat a.b(C.java:1)"]).len(), 2);
}

fn line_of_a_trace() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = traces()
        .iter()
        .flat_map(|(_, _, trace)| lines(trace))
        .chain(ORDINARY)
        .map(|line| line.as_bytes().to_vec())
        .collect();
    prop_oneof![
        4 => prop::sample::select(known.clone()),
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (prop::sample::select(known), any::<prop::sample::Index>()).prop_map(|(mut line, at)| {
            line.truncate(at.index(line.len() + 1));
            line
        }),
    ]
}

proptest! {
    #[test]
    fn no_line_is_lost_repeated_or_moved(
        stream in prop::collection::vec(line_of_a_trace(), 0..60),
        name in prop::option::weighted(0.8, prop::sample::select(&NAMES[..])),
    ) {
        let rule = name.map_or_else(|| Rule::starting("^[0-9]"), Rule::named).unwrap();
        // Lines of any bytes may hold newlines themselves: the whole is compared.
        prop_assert_eq!(join(&rule, &stream).join(&b'\n'), stream.join(&b'\n'));
    }

    #[test]
    fn nothing_continues_a_stream_that_begins_or_an_ordinary_line(
        line in line_of_a_trace(), name in prop::sample::select(&NAMES[..]), before in prop::sample::select(&ORDINARY[..])
    ) {
        let rule = Rule::named(name).unwrap();
        let mut state = State::default();
        rule.step(&mut state, before.as_bytes());
        prop_assert_ne!(rule.step(&mut state, &line), Step::Continues);
    }
}
