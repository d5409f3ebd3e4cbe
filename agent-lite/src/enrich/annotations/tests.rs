use super::*;

fn allowed() -> Allowed {
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
    Allowed {
        parsers: names(&["json", "nginx", "klog"]),
        multiline: names(&["java"]),
        exclude: true,
        sample: true,
        fluentbit: true,
    }
}

fn read_with(annotations: &[(&str, &str)], allowed: &Allowed) -> (Choices, Vec<Problem>) {
    read(annotations.iter().copied(), &["app", "side-car", "stdout"], allowed)
}

/// Parser, multi-line rule and exclusion of a container's stream, as `json java -`.
fn chosen(choices: &Choices, container: &str, stream: Stream) -> String {
    let choice = choices.of(container, stream);
    let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("-").to_owned();
    format!("{} {} {}", name(&choice.parser), name(&choice.multiline), if choice.exclude { "out" } else { "-" })
}

#[test]
fn the_most_specific_annotation_counts() {
    use Stream::{Stderr, Stdout};
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, Stream, &'a str);
    let rows: &[Row<'_>] = &[
        (&[], "app", Stdout, "- - -"),
        (&[("sluice.dev/parser", "json")], "app", Stdout, "json - -"),
        (&[("sluice.dev/parser", "json")], "a container that came later", Stderr, "json - -"),
        (&[("sluice.dev/parser.app", "json")], "app", Stderr, "json - -"),
        (&[("sluice.dev/parser.app", "json")], "side-car", Stderr, "- - -"),
        (&[("sluice.dev/parser.stderr", "json")], "app", Stderr, "json - -"),
        (&[("sluice.dev/parser.stderr", "json")], "app", Stdout, "- - -"),
        // A lone `stdout` is the stream, also where a container is called so.
        (&[("sluice.dev/parser.stdout", "json")], "stdout", Stderr, "- - -"),
        (&[("sluice.dev/parser.stdout", "json")], "app", Stdout, "json - -"),
        (&[("sluice.dev/parser.stdout.stdout", "json")], "stdout", Stdout, "json - -"),
        (&[("sluice.dev/parser.stdout.stdout", "json")], "app", Stdout, "- - -"),
        (&[("sluice.dev/parser", "json"), ("sluice.dev/parser.stdout", "klog")], "app", Stdout, "klog - -"),
        (&[("sluice.dev/parser.app", "json"), ("sluice.dev/parser.stdout", "klog")], "app", Stdout, "json - -"),
        (&[("sluice.dev/parser.app", "json"), ("sluice.dev/parser.app.stdout", "klog")], "app", Stdout, "klog - -"),
        (&[("sluice.dev/parser", "json"), ("sluice.dev/parser.app", "none")], "app", Stdout, "- - -"),
        (&[("sluice.dev/parser", "json"), ("sluice.dev/parser.app", "none")], "side-car", Stdout, "json - -"),
        (&[("sluice.dev/parser", "json"), ("sluice.dev/multiline", " java ")], "app", Stdout, "json java -"),
        (&[("sluice.dev/exclude", "true")], "app", Stdout, "- - out"),
        (&[("sluice.dev/exclude", "true"), ("sluice.dev/exclude.app", "false")], "app", Stdout, "- - -"),
        (&[("sluice.dev/exclude", "true"), ("sluice.dev/exclude.app", "false")], "side-car", Stdout, "- - out"),
        // Fluent Bit's.
        (&[("fluentbit.io/parser", "nginx")], "app", Stdout, "nginx - -"),
        (&[("fluentbit.io/parser_stderr", "nginx")], "app", Stderr, "nginx - -"),
        (&[("fluentbit.io/parser_stderr", "nginx")], "app", Stdout, "- - -"),
        (&[("fluentbit.io/parser-side-car", "nginx")], "side-car", Stdout, "nginx - -"),
        (&[("fluentbit.io/parser_stdout-side-car", "nginx")], "side-car", Stdout, "nginx - -"),
        (&[("fluentbit.io/parser_stdout-side-car", "nginx")], "side-car", Stderr, "- - -"),
        (&[("fluentbit.io/exclude", "True")], "app", Stdout, "- - out"),
        (&[("fluentbit.io/exclude_stderr", "true")], "app", Stdout, "- - -"),
        (&[("fluentbit.io/exclude_stderr-app", "true")], "app", Stderr, "- - out"),
        (&[("fluentbit.io/parser-app", "nginx"), ("sluice.dev/parser", "json")], "app", Stdout, "json - -"),
        // Someone else's.
        (
            &[("fluentbit.io/parser_both", "nginx"), ("fluentbit.io/x", "y"), ("sluice.example/parser", "json")],
            "app",
            Stdout,
            "- - -",
        ),
    ];
    for (annotations, container, stream, expected) in rows {
        let (choices, problems) = read_with(annotations, &allowed());
        assert_eq!(chosen(&choices, container, *stream), *expected, "{annotations:?} {container} {stream:?}");
        assert_eq!(problems, [], "{annotations:?}");
    }
}

#[test]
fn a_sample_is_chosen_for_a_pod_a_container_and_a_stream() {
    let annotations = [("sluice.dev/sample", "10"), ("sluice.dev/sample.app", " 1"), ("sluice.dev/sample.stderr", "3")];
    let (choices, problems) = read_with(&annotations, &allowed());
    assert_eq!(problems, []);
    let sample = |container, stream| choices.of(container, stream).sample;
    assert_eq!([sample("app", Stream::Stdout), sample("app", Stream::Stderr)], [Some(1); 2]);
    assert_eq!([sample("side-car", Stream::Stdout), sample("side-car", Stream::Stderr)], [Some(10), Some(3)]);
    assert_eq!(Choices::default().of("app", Stream::Stdout).sample, None);
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    let nothing = Allowed::default();
    let few = Allowed { fluentbit: true, ..Allowed::default() };
    let all = allowed();
    for (annotation, allowed, expected) in [
        (("sluice.dev/parser", "jsn"), &all, "there is no parser \"jsn\"; there are: json, nginx, klog"),
        (("sluice.dev/parser", "json"), &nothing, "pods may not choose a parser"),
        (("sluice.dev/multiline", "python"), &all, "there is no multi-line rule \"python\"; there are: java"),
        (("sluice.dev/exclude", "true"), &nothing, "pods may not keep their logs out"),
        (("sluice.dev/exclude", "yes"), &all, "`true` or `false`"),
        (("sluice.dev/sample", "10"), &nothing, "pods may not have their logs sampled"),
        (("sluice.dev/sample", "0"), &all, "a whole number N from 1 to 1000000"),
        (("sluice.dev/sample", "0.1"), &all, "a whole number N"),
        (("sluice.dev/sample", "none"), &all, "a whole number N"),
        (("fluentbit.io/exclude", "maybe"), &all, "`true` or `false`"),
        (("sluice.dev/parser.sidecar", "json"), &all, "no container \"sidecar\"; it has: app, side-car, stdout"),
        (("fluentbit.io/parser-sidecar", "json"), &all, "no container \"sidecar\""),
        (("sluice.dev/parser.app.stdin", "json"), &all, "stdout or stderr, not \"stdin\""),
        (("sluice.dev/parser.app.stdout.x", "json"), &all, "more parts"),
        (("sluice.dev/parsr", "json"), &all, "no such annotation"),
        (("fluentbit.io/parser", "json"), &few, "may not choose a parser"),
        // `none` is a word of ours alone.
        (("fluentbit.io/parser", "none"), &all, "there is no parser \"none\""),
    ] {
        let (choices, problems) = read_with(&[annotation], allowed);
        assert_eq!(choices, Choices::default(), "{annotation:?}");
        assert_eq!(problems.len(), 1, "{annotation:?}");
        assert_eq!(problems[0].annotation, annotation.0);
        assert!(problems[0].message.contains(expected), "{annotation:?}: {}", problems[0]);
    }
}

#[test]
fn a_wrong_annotation_leaves_the_less_specific_one_in_force() {
    let (choices, problems) = read_with(&[("sluice.dev/parser", "json"), ("sluice.dev/parser.app", "jsn")], &allowed());
    assert_eq!(chosen(&choices, "app", Stream::Stdout), "json - -");
    assert_eq!(problems.len(), 1);
}

#[test]
fn fluent_bits_annotations_are_read_only_where_the_operator_says_so() {
    let without = Allowed { fluentbit: false, ..allowed() };
    let (choices, problems) = read_with(&[("fluentbit.io/parser", "json"), ("fluentbit.io/exclude", "?")], &without);
    assert_eq!((choices, problems), (Choices::default(), Vec::new()));
}

#[test]
fn problems_are_few_and_short_whatever_a_pod_writes() {
    let key = format!("sluice.dev/parser.{}", "é".repeat(5000));
    let annotations: Vec<(String, String)> = (0..50).map(|n| (format!("{key}{n}"), "x".repeat(100_000))).collect();
    let annotations: Vec<(&str, &str)> =
        annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let (_, problems) = read_with(&annotations, &allowed());
    assert_eq!(problems.len(), MAX_PROBLEMS);
    assert!(problems.iter().all(|problem| problem.to_string().chars().count() < 600));
}
