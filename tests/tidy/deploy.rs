//! Reads what is shipped under `deploy/` and holds it to the rules of operation, each with a broken copy that it must find.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const DEPLOYMENT: &str = "deploy/kubernetes/deployment.yaml";
const SIDECAR: &str = "deploy/kubernetes/sidecar.yaml";
const COMPOSE: &str = "deploy/docker/compose.yaml";
const DOCKERFILE: &str = "deploy/docker/Dockerfile";
const UNIT: &str = "deploy/systemd/relay.service";
const DATABASE: &str = "deploy/docker/init-database.sh";

// === YAML, as far as these files use it ===

/// A document: each scalar by its path, such as `spec.template.spec.containers[0].image`.
type Document = BTreeMap<String, String>;

/// Block mappings, block sequences indented below their key, literal blocks, comments. A flow value (`[a, b]`) stays the text it is.
fn documents(text: &str) -> Vec<Document> {
    text.split("\n---\n").map(document).filter(|document| !document.is_empty()).collect()
}

fn document(text: &str) -> Document {
    let mut found = Document::new();
    // Enclosing levels: indentation, path, and how many items a sequence at that level has.
    let mut levels: Vec<(usize, String, usize)> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') || rest == "---" {
            continue;
        }
        let mut indent = line.len() - rest.len();
        while let Some(item) = rest.strip_prefix("- ") {
            levels.retain(|level| level.0 < indent || (level.0 == indent && level.2 > 0));
            let is_next = levels.last().is_some_and(|level| level.0 == indent && level.2 > 0);
            if !is_next {
                let parent = levels.last().map_or(String::new(), |level| level.1.clone());
                levels.push((indent, parent, 0));
            }
            let Some(level) = levels.last_mut() else { break };
            level.2 += 1;
            let path = format!("{}[{}]", level.1, level.2 - 1);
            let trimmed = item.trim_start();
            indent += rest.len() - trimmed.len();
            rest = trimmed;
            levels.push((indent - 1, path, 0));
        }
        let is_pair = |text: &str| !text.starts_with(['"', '\'', '[', '{']) && (text.contains(": ") || text.ends_with(':'));
        if !is_pair(rest) {
            let path = levels.last().map_or(String::new(), |level| level.1.clone());
            found.insert(path, scalar(rest));
            continue;
        }
        levels.retain(|level| level.0 < indent);
        let (key, value) = rest.split_once(':').unwrap_or((rest, ""));
        let parent = levels.last().map_or(String::new(), |level| level.1.clone());
        let path = if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        match value.trim() {
            "|" => {
                let mut block = String::new();
                while let Some(line) =
                    lines.next_if(|line| line.trim().is_empty() || line.len() - line.trim_start().len() > indent)
                {
                    block.push_str(line.get(indent + 2..).unwrap_or_default());
                    block.push('\n');
                }
                found.insert(path, block);
            }
            "" => levels.push((indent, path, 0)),
            value => {
                found.insert(path, scalar(value));
            }
        }
    }
    found
}

fn scalar(text: &str) -> String {
    let text = text.split(" #").next().unwrap_or_default().trim();
    text.trim_matches(['"', '\'']).to_owned()
}

fn get<'a>(document: &'a Document, path: &str) -> &'a str {
    document.get(path).map_or("", String::as_str)
}

/// Paths of the containers of a workload: `…containers[0]`, `…initContainers[0]`.
fn containers(document: &Document) -> Vec<String> {
    let is_container = |path: &&str| {
        let last = path.rsplit('.').next().unwrap_or_default();
        last.starts_with("initContainers[") || last.starts_with("containers[")
    };
    let names = document.keys().filter_map(|path| path.strip_suffix(".name"));
    names.filter(is_container).map(str::to_owned).collect()
}

fn has_below(document: &Document, path: &str) -> bool {
    let prefix = format!("{path}.");
    document.keys().any(|key| key == path || key.starts_with(&prefix))
}

fn of_kind<'a>(all: &'a [Document], kind: &str) -> Vec<&'a Document> {
    all.iter().filter(|document| get(document, "kind") == kind).collect()
}

// === Kubernetes ===

/// Everything that is wrong with a file of manifests.
fn manifest_findings(text: &str) -> Vec<String> {
    let all = documents(text);
    let mut found = Vec::new();
    for document in &all {
        let kind = get(document, "kind");
        let allowed = ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service"];
        if !allowed.contains(&kind) {
            found.push(format!("kind `{kind}` is not expected: no autoscaler, no RBAC, no secret in a manifest"));
        }
    }
    for deployment in of_kind(&all, "Deployment") {
        pod(deployment, &mut found);
        for container in containers(deployment) {
            confinement(deployment, &container, &mut found);
            probes(deployment, &container, &mut found);
        }
        replicas(deployment, &all, &mut found);
        configuration(deployment, &all, &mut found);
    }
    for service in of_kind(&all, "Service") {
        if get(service, "spec.publishNotReadyAddresses") != "true" {
            found.push("the Service hides /status while relay is not ready".into());
        }
    }
    found
}

fn pod(deployment: &Document, found: &mut Vec<String>) {
    let spec = "spec.template.spec";
    for (path, wanted) in [
        ("securityContext.runAsNonRoot", "true"),
        ("securityContext.runAsUser", "65532"),
        ("securityContext.seccompProfile.type", "RuntimeDefault"),
        ("automountServiceAccountToken", "false"),
        ("enableServiceLinks", "false"),
    ] {
        if get(deployment, &format!("{spec}.{path}")) != wanted {
            found.push(format!("{path} is not {wanted}"));
        }
    }
    for (path, value) in deployment.iter().filter(|(path, _)| path.starts_with("spec.selector.matchLabels.")) {
        let label = path.trim_start_matches("spec.selector.matchLabels.");
        if get(deployment, &format!("spec.template.metadata.labels.{label}")) != value {
            found.push(format!("the selector's {label} is not a label of the pods"));
        }
    }
}

fn confinement(deployment: &Document, container: &str, found: &mut Vec<String>) {
    for (path, wanted) in [
        ("securityContext.allowPrivilegeEscalation", "false"),
        ("securityContext.readOnlyRootFilesystem", "true"),
        ("securityContext.capabilities.drop", "[\"ALL\"]"),
    ] {
        if get(deployment, &format!("{container}.{path}")) != wanted {
            found.push(format!("{container}: {path} is not {wanted}"));
        }
    }
    for path in ["resources.requests.cpu", "resources.requests.memory", "resources.limits.memory"] {
        if get(deployment, &format!("{container}.{path}")).is_empty() {
            found.push(format!("{container}: {path} is missing"));
        }
    }
    if !has_version(get(deployment, &format!("{container}.image"))) {
        found.push(format!("{container}: the image has neither version nor digest"));
    }
    if deployment.keys().any(|path| path.starts_with(&format!("{container}.env"))) {
        found.push(format!("{container}: settings come from the file, secrets from mounted files, none from the environment"));
    }
    if deployment.keys().any(|path| path.starts_with(container) && path.contains("Probe.exec")) {
        found.push(format!("{container}: a probe that needs a program in the image"));
    }
}

fn has_version(image: &str) -> bool {
    let tag = image.rsplit('/').next().unwrap_or_default().split_once([':', '@']).map_or("", |(_, tag)| tag);
    tag.starts_with("sha256:") || (tag.chars().next().is_some_and(|letter| letter.is_ascii_digit()) && tag.contains('.'))
}

fn probes(deployment: &Document, container: &str, found: &mut Vec<String>) {
    let is_sidecar = container.contains("initContainers[");
    let mut wanted = vec!["startupProbe", "livenessProbe"];
    if is_sidecar {
        if get(deployment, &format!("{container}.restartPolicy")) != "Always" {
            found.push(format!("{container}: without restartPolicy Always it is no sidecar, and the application never starts"));
        }
        if has_below(deployment, &format!("{container}.readinessProbe")) {
            found.push(format!("{container}: a sidecar's readiness counts for the whole pod"));
        }
    } else {
        wanted.push("readinessProbe");
    }
    for probe in wanted {
        let port = get(deployment, &format!("{container}.{probe}.httpGet.port"));
        let prefix = format!("{container}.ports[");
        let mut names = deployment.iter().filter(|(path, _)| path.starts_with(&prefix) && path.ends_with("].name"));
        let is_known = names.any(|(_, name)| name == port);
        if port.is_empty() || !is_known {
            found.push(format!("{container}: {probe} is missing, or names no port of the container"));
        }
    }
    let paths = [("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")];
    for (probe, path) in paths.iter().filter(|_| get(deployment, &format!("{container}.name")) == "relay") {
        if ![*path, ""].contains(&get(deployment, &format!("{container}.{probe}.httpGet.path"))) {
            found.push(format!("{container}: {probe} does not ask {path}"));
        }
    }
}

fn replicas(deployment: &Document, all: &[Document], found: &mut Vec<String>) {
    if get(deployment, "spec.replicas").parse::<u32>().unwrap_or(1) < 2 {
        return;
    }
    let affinity = "spec.template.spec.affinity.podAntiAffinity.";
    if !deployment.keys().any(|path| path.starts_with(affinity)) {
        found.push("several replicas may land on one node".into());
    }
    let label = "app.kubernetes.io/name";
    let ours = get(deployment, &format!("spec.selector.matchLabels.{label}"));
    let is_ours = |budget: &&Document| {
        get(budget, &format!("spec.selector.matchLabels.{label}")) == ours && get(budget, "spec.maxUnavailable") == "1"
    };
    if !of_kind(all, "PodDisruptionBudget").iter().any(is_ours) {
        found.push("several replicas without a PodDisruptionBudget of maxUnavailable 1".into());
    }
}

/// The relay.toml inside a ConfigMap against the pod that mounts it.
fn configuration(deployment: &Document, all: &[Document], found: &mut Vec<String>) {
    let maps: Vec<_> = of_kind(all, "ConfigMap").into_iter().filter(|map| map.contains_key("data.relay.toml")).collect();
    let [map] = maps.as_slice() else { return found.push("not exactly one ConfigMap with relay.toml".into()) };
    let (name, text) = (get(map, "metadata.name"), get(map, "data.relay.toml"));
    if !deployment.iter().any(|(path, value)| path.ends_with(".configMap.name") && value == name) {
        found.push(format!("ConfigMap {name} is not mounted"));
    }
    let has_number = name.rsplit('-').next().is_some_and(|last| last.parse::<u32>().is_ok());
    if get(map, "immutable") != "true" || !has_number {
        found.push(format!("ConfigMap {name} could change without rolling the pods"));
    }
    let listen = setting(text, "admin", "listen");
    let port = listen.strip_prefix("0.0.0.0:").unwrap_or_default();
    if port.is_empty() || !deployment.iter().any(|(path, value)| path.ends_with("].containerPort") && value == port) {
        found.push(format!("admin.listen `{listen}` cannot be reached by the kubelet on a port of the pod"));
    }
    let grace: u64 = setting(text, "shutdown", "grace").trim_end_matches('s').parse().unwrap_or(25);
    let limit: u64 = get(deployment, "spec.template.spec.terminationGracePeriodSeconds").parse().unwrap_or(30);
    if limit < grace + 5 {
        found.push(format!("terminationGracePeriodSeconds {limit} is less than shutdown.grace + 5 s"));
    }
    found.extend(toml_findings(text));
}

// === relay.toml, as far as the key table tells ===

/// The keys of a file with their sections: `("source.log", "slot", "\"relay_orders\"")`.
fn settings(text: &str) -> Vec<(String, String, String)> {
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line.split('#').next().unwrap_or_default().trim().trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.split(" #").next().unwrap_or_default();
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

fn setting(text: &str, section: &str, key: &str) -> String {
    let found = settings(text).into_iter().find(|(at, name, _)| at == section && name == key);
    found.map_or(String::new(), |(_, _, value)| value.trim_matches('"').to_owned())
}

/// Keys that the reference does not list, or lists as a later version's.
fn toml_findings(text: &str) -> Vec<String> {
    let reference = read("docs/reference/config.md");
    let mut found = Vec::new();
    for (section, key, _) in settings(text) {
        let title = if section.is_empty() { "## Top level".to_owned() } else { format!("## `[{section}]`") };
        let list = format!("## `[[{section}]]`");
        let part = reference.split_once(&format!("{title}\n")).or_else(|| reference.split_once(&format!("{list}\n")));
        let part = part.map_or("", |(_, part)| part.split("\n## ").next().unwrap_or_default());
        let plain = key.trim_end_matches("_file");
        let row =
            part.lines().find(|line| line.starts_with(&format!("| `{key}` |")) || line.starts_with(&format!("| `{plain}` |")));
        match row {
            None => found.push(format!("[{section}] {key}: not in docs/reference/config.md")),
            Some(row) if row.contains("*Not in this version.*") => found.push(format!("[{section}] {key}: not in this version")),
            Some(row) if row.contains("| secret |") && key == plain => {
                found.push(format!("[{section}] {key}: a secret in the file"))
            }
            Some(_) => {}
        }
    }
    found
}

// === The other files ===

fn dockerfile_findings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap_or(0);
    let stages =
        lines.iter().filter_map(|line| line.strip_prefix("FROM ")).map(|line| line.split(' ').next().unwrap_or_default());
    for image in stages.filter(|image| *image != "scratch") {
        if !has_version(image) {
            found.push(format!("{image}: neither version nor digest"));
        }
    }
    let shipped = &lines[last..];
    if !shipped.iter().any(|line| *line == "USER 65532" || *line == "USER 65532:65532") {
        found.push("the image does not run as uid 65532".into());
    }
    if shipped.iter().any(|line| line.starts_with("RUN ")) {
        found.push("the last stage runs a program: it needs a shell".into());
    }
    for word in ["ENTRYPOINT", "CMD"] {
        let line = shipped.iter().find(|line| line.starts_with(word)).copied().unwrap_or_default();
        if !line.starts_with(&format!("{word} [")) {
            found.push(format!("{word} is not in exec form"));
        }
    }
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).unwrap_or_default();
    if !lines.iter().any(|line| line.starts_with(&format!("FROM rust:{channel}-"))) {
        found.push(format!("the builder is not of Rust {channel}, which rust-toolchain.toml names"));
    }
    if !text.contains("--locked") {
        found.push("the build does not hold to Cargo.lock".into());
    }
    found
}

fn compose_findings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let all = document(text);
    for (path, image) in all.iter().filter(|(path, _)| path.ends_with(".image")) {
        if !has_version(image) {
            found.push(format!("{path}: `{image}` has neither version nor digest"));
        }
    }
    if !get(&all, "services.postgres.command").contains("wal_level=logical") {
        found.push("PostgreSQL does not write logical WAL".into());
    }
    for service in ["postgres", "kafka"] {
        if !has_below(&all, &format!("services.{service}.healthcheck")) {
            found.push(format!("{service} has no healthcheck"));
        }
    }
    let listeners = get(&all, "services.kafka.environment.KAFKA_ADVERTISED_LISTENERS");
    if !listeners.contains("//kafka:") || !listeners.contains("//localhost:") {
        found.push("Kafka cannot be reached from both containers and host".into());
    }
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let is_password = line.split(':').next().is_some_and(|key| key.contains("PASSWORD") && !key.ends_with("_FILE"));
        if is_password && line.contains(": ") {
            found.push(format!("a password in the file: {line}"));
        }
        if line.starts_with("ports:") && !line.contains("127.0.0.1:") {
            found.push(format!("a port open to the network: {line}"));
        }
    }
    found
}

fn unit_findings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for wanted in [
        "Type=exec",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "RestartPreventExitStatus=64 78",
        "TimeoutStopSec=30s",
        "DynamicUser=yes",
        "UMask=0077",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallFilter=@system-service",
    ] {
        if !lines.contains(&wanted) {
            found.push(format!("`{wanted}` is missing"));
        }
    }
    let unbuilt =
        [("Type=notify", "nothing notifies"), ("WatchdogSec", "nothing feeds the watchdog"), ("ExecReload", "SIGHUP ends relay")];
    for (unbuilt, why) in unbuilt {
        if lines.iter().any(|line| line.starts_with(unbuilt)) {
            found.push(format!("`{unbuilt}`: {why} in this version"));
        }
    }
    if lines.iter().any(|line| line.starts_with("Environment") && line.to_lowercase().contains("password")) {
        found.push("a secret in the environment".into());
    }
    found
}

fn database_findings(text: &str) -> Vec<String> {
    let (publication, slot) = (text.find("CREATE PUBLICATION"), text.find("pg_create_logical_replication_slot"));
    let is_ordered = publication.zip(slot).is_some_and(|(publication, slot)| publication < slot);
    if is_ordered { Vec::new() } else { vec!["the publication is not created before the slot".into()] }
}

// === Tests ===

/// The file has no finding; each broken copy of it has one that holds the given words.
fn hold(path: &str, rule: impl Fn(&str) -> Vec<String>, broken: &[(&str, &str, &str)]) {
    let text = read(path);
    assert_eq!(rule(&text), Vec::<String>::new(), "{path}");
    for (good, bad, words) in broken {
        let copy = text.replacen(good, bad, 1);
        assert_ne!(copy, text, "{path} does not hold `{good}`");
        let found = rule(&copy);
        assert!(found.iter().any(|finding| finding.contains(words)), "{path}: `{bad}` for `{good}` is not found: {found:?}");
    }
}

#[test]
fn yaml_is_read_by_path() {
    let text = "a: 1 # one\nb:\n  - name: x\n    c: [\"ALL\"]\n    d:\n      - e\n      - f: 2\n  - name: y\n".to_owned()
        + "i:\n  j.k: |\n    l = 1\n\n    m\n  n: \"o: p\"\n";
    let found = document(&text);
    let expected = [
        ("a", "1"),
        ("b[0].c", "[\"ALL\"]"),
        ("b[0].d[0]", "e"),
        ("b[0].d[1].f", "2"),
        ("b[0].name", "x"),
        ("b[1].name", "y"),
        ("i.j.k", "l = 1\n\nm\n"),
        ("i.n", "o: p"),
    ];
    assert_eq!(found.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn the_pair_follows_the_rules() {
    hold(
        DEPLOYMENT,
        manifest_findings,
        &[
            ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
            ("type: RuntimeDefault", "type: Unconfined", "seccompProfile"),
            ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "automount"),
            ("enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks"),
            ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"),
            ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"),
            ("drop: [\"ALL\"]", "drop: [\"NET_RAW\"]", "capabilities"),
            ("cpu: 100m", "cpu:", "requests.cpu"),
            ("memory: 512Mi", "memory:", "limits.memory"),
            ("image: relay:0.1.0", "image: relay:latest", "version"),
            ("image: relay:0.1.0", "image: relay", "version"),
            (
                "          ports:\n",
                concat!("          env:\n            - name: RELAY__X\n", "              value: x\n          ports:\n"),
                "environment",
            ),
            ("readinessProbe:", "someProbe:", "readinessProbe"),
            ("port: admin\n            periodSeconds: 10", "port: web\n            periodSeconds: 10", "livenessProbe"),
            ("path: /startupz", "path: /readyz", "/startupz"),
            ("httpGet:", "exec:", "a program"),
            ("podAntiAffinity:", "podAffinity:", "one node"),
            ("kind: PodDisruptionBudget", "kind: HorizontalPodAutoscaler", "autoscaler"),
            ("kind: PodDisruptionBudget", "kind: Service", "PodDisruptionBudget"),
            ("publishNotReadyAddresses: true", "publishNotReadyAddresses: false", "hides"),
            ("app.kubernetes.io/instance: orders\n  template", "app.kubernetes.io/instance: other\n  template", "selector"),
            ("terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 25", "terminationGracePeriodSeconds"),
            ("listen = \"0.0.0.0:9464\"", "listen = \"127.0.0.1:9464\"", "kubelet"),
            ("listen = \"0.0.0.0:9464\"", "listen = \"0.0.0.0:9465\"", "kubelet"),
            ("immutable: true", "immutable: false", "rolling"),
            ("name: relay-orders-config-1", "name: relay-orders-config-2", "not mounted"),
            ("create = \"never\"", "creat = \"never\"", "not in docs"),
            ("create = \"never\"", "spool_max = \"1GiB\"", "not in this version"),
            ("password_file = \"/run/secrets/relay/pg_password\"", "password = \"x\"", "a secret"),
        ],
    );
}

#[test]
fn the_sidecar_follows_the_rules() {
    hold(
        SIDECAR,
        manifest_findings,
        &[
            ("restartPolicy: Always", "restartPolicy: OnFailure", "no sidecar"),
            (
                "          livenessProbe:\n",
                concat!(
                    "          readinessProbe:\n            httpGet:\n              path: /readyz\n",
                    "          livenessProbe:\n"
                ),
                "whole pod",
            ),
            ("startupProbe:", "someProbe:", "startupProbe"),
            ("livenessProbe:", "someProbe:", "livenessProbe"),
            ("listen = \"0.0.0.0:19464\"", "listen = \"127.0.0.1:19464\"", "kubelet"),
            ("terminationGracePeriodSeconds: 50", "terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds"),
            ("image: relay:0.1.0", "image: relay:latest", "version"),
            ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"),
            ("kind: PodDisruptionBudget", "kind: Role", "RBAC"),
        ],
    );
    let sidecar = documents(&read(SIDECAR));
    let deployment = of_kind(&sidecar, "Deployment")[0];
    assert_eq!(containers(deployment).len(), 2, "the sidecar and the application");
}

#[test]
fn the_image_follows_the_rules() {
    hold(
        DOCKERFILE,
        dockerfile_findings,
        &[
            ("USER 65532:65532", "USER root", "65532"),
            ("ENTRYPOINT [\"/usr/bin/relay\"]", "ENTRYPOINT /usr/bin/relay", "exec form"),
            ("FROM rust:1.95.0-slim-bookworm", "FROM rust:latest", "neither version"),
            ("FROM rust:1.95.0-slim-bookworm", "FROM rust:1.80.0-slim-bookworm", "rust-toolchain.toml"),
            ("FROM scratch\n", "FROM scratch\nRUN true\n", "shell"),
            ("--locked", "", "Cargo.lock"),
        ],
    );
}

#[test]
fn compose_follows_the_rules() {
    hold(
        COMPOSE,
        compose_findings,
        &[
            ("wal_level=logical", "wal_level=replica", "logical WAL"),
            ("image: apache/kafka:4.1.0", "image: apache/kafka:latest", "neither version"),
            ("    healthcheck:", "    labels:", "healthcheck"),
            (",HOST://localhost:9092", "", "both containers and host"),
            ("POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password", "POSTGRES_PASSWORD: postgres", "a password"),
            ("127.0.0.1:9464:9464", "9464:9464", "open to the network"),
        ],
    );
    let file = read("deploy/docker/relay.toml");
    assert_eq!(toml_findings(&file), Vec::<String>::new());
    assert_eq!(setting(&file, "admin", "listen"), "0.0.0.0:9464", "the published port leads nowhere else");
    hold(DATABASE, database_findings, &[("CREATE PUBLICATION", "-- no publication", "before the slot")]);
}

#[test]
fn the_unit_follows_the_rules() {
    hold(
        UNIT,
        unit_findings,
        &[
            ("\nType=exec\n", "\nType=notify\n", "nothing notifies"),
            ("TimeoutStopSec=30s", "TimeoutStopSec=30s\nWatchdogSec=60s", "watchdog"),
            ("Restart=always", "Restart=always\nExecReload=/bin/kill -HUP $MAINPID", "SIGHUP"),
            ("RestartPreventExitStatus=64 78", "RestartPreventExitStatus=78", "RestartPreventExitStatus"),
            ("DynamicUser=yes", "User=root", "DynamicUser"),
            ("ProtectSystem=strict", "ProtectSystem=full", "ProtectSystem"),
            ("UMask=0077", "UMask=0077\nEnvironment=RELAY__SOURCE__PASSWORD=x", "a secret"),
        ],
    );
}
