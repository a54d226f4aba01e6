package docker_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// Groups of the demo that are attacked.
const (
	storefrontGroup = "shop/storefront/storefront"
	legacyGroup     = "shop/legacy/legacy" // of the containers that attacks bring
)

// attack is what a script of demo/attacks meets in a group whose profile was learned.
type attack struct {
	group asset.Group
	// told is in the sentence of a violation that monitoring makes of it.
	told string
	// stopped is in the sentence of what protecting kills. That the deed did not happen
	// is the script's own word.
	stopped string
	// within says why the attack stays within the profile; then nothing is told of it,
	// and it works.
	within string
	// mute says why the script can't tell that it was stopped.
	mute string
	// rules are those of detection of which one makes an incident of it, whatever the
	// profile says. None has what events can't tell from ordinary work: requests.
	rules []string
	// slow says, by the word of an attack that worked, that this machine was too slow for
	// what the sensors tell at once; nil is never.
	slow func(word string) bool
}

// fewDatagrams says that a flood sent fewer datagrams in its time than make the sensor of
// the network tell of a flow that goes on.
func fewDatagrams(word string) bool {
	var came, sent int
	_, err := fmt.Sscanf(word, "worked: %d of %d datagrams arrived", &came, &sent)
	return err == nil && sent < 10_000
}

// labelsShell is why a shell alone is none too many in the storefront.
const labelsShell = "the shell is of the profile, for gift labels, and so is what it does by itself; each other program that it runs is killed"

// Protected is what programs run, here, by the rung of signals. Files are not: this
// kernel's BPF is no security module (see test/vm for that rung), so an attack that
// would stay within the programs of the profile and read a secret would only be told.
var attacks = map[string]attack{
	"credentials": {group: storefrontGroup, told: "cat opened /run/secrets/payment-key for reading (secrets): the profile allows the group to read no sensitive files",
		stopped: "ran /usr/bin/cat, and was killed", rules: []string{"credentials-environ", "credentials-secrets", "credentials-token", "credentials-keys", "credentials-search"}},
	"dns-tunnel": {group: storefrontGroup, told: "bash connected to docker/castellan-demo-evil udp port 53", stopped: "ran /usr/bin/timeout, and was killed", rules: []string{"network-name-tunnel"}},
	"download-run": {group: storefrontGroup, told: "/payload, which did not come with the image but was written after the container was made",
		stopped: "ran /usr/bin/mkdir, and was killed", rules: []string{"download-hidden", "download-temporary"}},
	"escape-mount":   {group: legacyGroup, told: "dash created /host/", stopped: "ran /usr/bin/dash, and was killed", rules: []string{"escape-mount-host", "escape-host-files"}},
	"escape-nsenter": {group: legacyGroup, told: "nsenter joined a namespace", stopped: "ran /usr/bin/bash, and was killed", rules: []string{"escape-nsenter", "escape-enter-host"}},
	"escape-release-agent": {group: legacyGroup, told: "mount mounted cgroup cgroup on /tmp/cg: the profile has no privileged calls",
		stopped: "ran /usr/bin/dash, and was killed", rules: []string{"escape-release-agent"}},
	"escape-socket": {group: legacyGroup, told: "ran /tmp/tool, which did not come with the image", stopped: "ran /usr/bin/dash, and was killed", rules: []string{"escape-engine-client", "escape-engine-socket"}},
	"flood-http":    {group: storefrontGroup, within: "they are the shop's own pages, asked for by anybody; only more often"},
	"flood-syn":     {group: storefrontGroup, told: "opened a raw socket", stopped: "ran /usr/bin/bash, and was killed", rules: []string{"network-raw-made", "network-flooding"}},
	"flood-udp":     {group: storefrontGroup, told: "connected to docker/castellan-demo-evil udp port 9999", stopped: "ran /usr/bin/bash, and was killed", rules: []string{"network-flooding"}, slow: fewDatagrams},
	"fork-bomb":     {group: legacyGroup, told: "ran /usr/bin/bash", stopped: "ran /usr/bin/bash, and was killed", rules: []string{"storm-fork-bomb"}},
	"inject-mem":    {group: storefrontGroup, told: "perl opened /proc/1/mem for writing", stopped: "ran /usr/bin/perl, and was killed", rules: []string{"injection-proc-mem"}},
	"inject-preload": {group: storefrontGroup, told: ".so as code, which did not come with the image, which would have been denied: the profile allows no code but the image's",
		stopped: "ran /usr/bin/bash, and was killed", rules: []string{"injection-preload-line", "injection-written-library"}},
	"inject-ptrace": {group: storefrontGroup, told: "traced (attach), which would have been denied: the profile has no privileged calls",
		stopped: "ran /usr/bin/bash, and was killed", rules: []string{"injection-ptrace"}},
	"memory-hog": {group: legacyGroup, told: "ran /usr/bin/perl", stopped: "ran /usr/bin/timeout, and was killed",
		mute: "the kernel kills what takes too much memory with the same signal", rules: []string{"exhaustion-memory"}},
	"metadata": {group: storefrontGroup, told: "bash connected to 169.254.170.2 tcp port 80", stopped: "ran /usr/bin/grep, and was killed",
		mute: "it looks for its target first, in the same container, and does not get further", rules: []string{"credentials-metadata-tool", "credentials-metadata-connect"}},
	"miner":           {group: storefrontGroup, told: "xmrig connected to docker/castellan-demo-evil tcp port 3333", stopped: "ran /usr/bin/mkdir, and was killed", rules: []string{"miner-name", "miner-pool-port"}},
	"path-traversal":  {group: storefrontGroup, within: "/etc/passwd is no secret, and the storefront opens files of its own"},
	"reverse-shell":   {group: storefrontGroup, told: "bash connected to docker/castellan-demo-evil tcp port 4444", stopped: "ran /usr/bin/timeout, and was killed", rules: []string{"shell-reverse", "shell-network-commands"}},
	"scan":            {group: storefrontGroup, told: "bash connected to shop/store/store tcp port 22", stopped: "ran /usr/bin/hostname, and was killed", rules: []string{"scan-port-sweep", "scan-host-sweep"}},
	"shell-exec":      {group: storefrontGroup, told: "ran /usr/bin/id", stopped: "ran /usr/bin/id, and was killed", mute: labelsShell, rules: []string{"shell-entered-commands"}},
	"shell-injection": {group: storefrontGroup, told: "ran /usr/bin/id", stopped: "ran /usr/bin/id, and was killed", mute: labelsShell, rules: []string{"shell-by-web-server", "shell-injection", "shell-by-application"}},
	"sql-injection":   {group: storefrontGroup, within: "the storefront speaks with its database, as ever; what it says is for who looks into requests"},
	"xss":             {group: storefrontGroup, within: "nothing is done but to a page that goes to a browser"},
}

// attackedShop is the demo's shop in the ward of an agent.
type attackedShop struct {
	*ward
	storefront string              // id of the container
	techniques map[string][]string // by rule
}

// openShop starts the demo's shop, with a container of the group that attacks bring
// theirs to, and returns when all that the shop does was learned.
func openShop(t *testing.T) *attackedShop {
	t.Helper()
	e := engine.ForTest(t, engine.Options{Apart: true, Settings: map[string]any{"userland-proxy": false}})
	s := &attackedShop{ward: guardedHost(t, e), techniques: techniquesOf(t)}
	if out, err := s.runs(3*time.Minute, "go", "run", "./demo", "up"); err != nil {
		t.Fatalf("demo up: %v\n%s", err, out)
	}
	var err error
	if s.storefront, err = s.docker("ps", "--quiet", "--no-trunc", "--filter", "label=com.amazonaws.ecs.container-name=storefront"); err != nil {
		t.Fatalf("find the storefront: %v\n%s", err, s.storefront)
	}
	ordinary := []string{"run", "--detach", "--pull=never", "--name=ordinary", "--network=castellan-demo", "--entrypoint=sleep"}
	for k, v := range map[string]string{
		"cluster": "shop", "task-arn": "arn:aws:ecs:eu-central-1:123456789012:task/shop/" + taskID,
		"task-definition-family": "legacy", "task-definition-version": "1", "container-name": "legacy",
	} {
		ordinary = append(ordinary, "--label=com.amazonaws.ecs."+k+"="+v)
	}
	if out, err := s.docker(append(ordinary, "castellan-demo/storefront:3", "3600")...); err != nil {
		t.Fatalf("docker run: %v\n%s", err, out)
	}
	for _, page := range []string{"/", "/static?file=style.css", "/search?q=mug", "/label?text=for+you"} {
		if out, err := s.get(page); err != nil {
			t.Fatalf("the storefront's %s: %v\n%s", page, err, out)
		}
	}
	s.known(s.storefront)
	s.known("ordinary")
	return s
}

// get asks the storefront for a page, as somebody of its network.
func (s *attackedShop) get(page string) (string, error) {
	return s.docker("exec", "castellan-demo-evil", "/bin/evil", "get", "http://storefront:8080"+page)
}

// attack runs an attack, and returns its word and the moment when it began.
func (s *attackedShop) attack(name string) (word string, began time.Time) {
	began = time.Now()
	word, err := s.runs(80*time.Second, "bash", "demo/attacks/"+name+".sh")
	if err != nil && word == "" {
		word = err.Error()
	}
	return word, began
}

// tells waits for a violation of a group, seen since a moment, whose sentence has a
// part.
func (s *attackedShop) tells(t *testing.T, g asset.Group, part string, since time.Time) (v store.BehaviourViolation) {
	t.Helper()
	var last []store.BehaviourViolation
	end := time.Now().Add(patience)
	for ; ; time.Sleep(200 * time.Millisecond) {
		last = slices.DeleteFunc(s.outside(since), func(v store.BehaviourViolation) bool { return v.Last.Before(since) || v.Group != g })
		if i := slices.IndexFunc(last, func(v store.BehaviourViolation) bool { return strings.Contains(v.Sentence, part) }); i >= 0 {
			return last[i]
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not told; what is:\n%s", part, sentences(last))
		}
	}
}

func sentences(list []store.BehaviourViolation) string {
	var b strings.Builder
	for _, v := range list {
		fmt.Fprintf(&b, "  ×%d %s %s: %s\n", v.Count, v.Group, v.Reaction, v.Sentence)
	}
	return b.String()
}

// TestAttacksAreToldAndStopped runs each attack on the demo's shop twice, after its
// behaviour was learned: monitored, where it works and is told, and protected, where
// it is stopped. The shop goes on.
func TestAttacksAreToldAndStopped(t *testing.T) {
	scripts, err := filepath.Glob("../../demo/attacks/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, script := range scripts {
		if name := strings.TrimSuffix(filepath.Base(script), ".sh"); name != "lib" {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if _, ok := attacks[name]; !ok {
			t.Errorf("nothing is said of the attack %s: see the table", name)
		}
	}
	if len(names) != len(attacks) {
		t.Fatalf("%d attacks, and %d in the table", len(names), len(attacks))
	}
	s := openShop(t)
	s.mode(profile.Monitor, storefrontGroup, legacyGroup)
	for _, name := range names {
		t.Run("monitored/"+name, func(t *testing.T) { s.monitored(t, name, attacks[name]) })
	}
	s.mode(profile.Protect, storefrontGroup, legacyGroup)
	for _, name := range names {
		t.Run("protected/"+name, func(t *testing.T) { s.protected(t, name, attacks[name]) })
	}
	if label, err := s.get("/label?text=still+here"); err != nil || !strings.Contains(label, "still here") {
		t.Errorf("the protected storefront's label: %v, %s", err, label)
	}
}

func (s *attackedShop) monitored(t *testing.T, name string, a attack) {
	if a.within != "" {
		s.known(s.storefront) // what the attack before cleaned up was told by now
	}
	stop := s.clock(t)
	word, began := s.attack(name)
	ended := time.Now()
	if !strings.HasPrefix(word, "worked: ") {
		t.Fatalf("it did not work: %s", word)
	}
	t.Logf("it took %s", ended.Sub(began).Round(time.Millisecond))
	if len(a.rules) > 0 {
		if a.slow != nil && a.slow(word) {
			ended = ended.Add(patience) // by when it is told all the same
		}
		s.detected(t, name, a, began, ended)
	}
	stop()
	if a.within != "" {
		s.isWithin(t, a, began)
		return
	}
	if v := s.tells(t, a.group, a.told, began); v.Unheld || v.Reaction != "" && v.Reaction != event.ReactionAudited {
		t.Errorf("it would not be stopped, or was: %+v", v.Violation)
	}
}

// isWithin fails the test if anything was told that would be stopped. What an attack
// before repeated is told up to a minute after it happened, so the event's own time counts.
func (s *attackedShop) isWithin(t *testing.T, a attack, began time.Time) {
	t.Helper()
	s.known(s.storefront)
	for _, v := range s.outside(began) {
		if v.Group != a.group || v.Last.Before(began) || v.Unheld || v.Subject == "/usr/bin/true" {
			continue
		}
		var e event.Event
		s.asks(&e, "/events/"+strconv.FormatInt(v.EventID, 10), nil)
		if e.Time.Before(began) && e.Last.Before(began) {
			continue
		}
		t.Errorf("it is said to stay within (%s), but: %s", a.within, v.Sentence)
	}
}

func (s *attackedShop) protected(t *testing.T, name string, a attack) {
	word, began := s.attack(name)
	if a.within != "" {
		if !strings.HasPrefix(word, "worked: ") {
			t.Errorf("it did not work, though it stays within (%s): %s", a.within, word)
		}
		return
	}
	if !strings.HasPrefix(word, "stopped: ") && a.mute == "" {
		t.Errorf("it was not stopped: %s", word)
	}
	if v := s.tells(t, a.group, a.stopped, began); v.Reaction != event.ReactionKilled {
		t.Errorf("the reaction was %q: %s", v.Reaction, v.Sentence)
	}
}
