package iac

import (
	"strings"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/iac/tree"
)

// maxInterpolated bounds a text in which variables were put.
const maxInterpolated = 64 << 10

// isCompose says whether a document is a compose file: services with an image, or
// something to build one of.
func isCompose(n *tree.Node) bool {
	services := n.Exact("services")
	if services == nil || services.Kind != tree.Map {
		return false
	}
	for _, f := range services.Fields {
		if f.Value.Kind == tree.Map && (f.Value.Exact("image") != nil || f.Value.Exact("build") != nil) {
			return true
		}
	}
	return false
}

// composeTasks makes a task of each service, with one container.
func composeTasks(n *tree.Node) []blueprint.Task {
	interpolate(n, 0)
	var out []blueprint.Task
	for _, f := range n.Exact("services").Fields {
		s := f.Value
		if s.Kind != tree.Map {
			continue
		}
		if s.Exact("extends") != nil { // the rest is in another file, or further down
			s.Open = true
		}
		at := f.KeyAt
		at.End = s.At.End
		t := blueprint.Task{Resource: blueprint.Resource{Name: "services." + f.Key, At: at}, Origin: blueprint.Compose,
			Network: s.Get("network_mode").AsText(), PID: s.Get("pid").AsText(), IPC: s.Get("ipc").AsText()}
		var cut cut
		c := composeContainer(f.Key, s, &cut)
		c.At, t.Cut = at, string(cut)
		t.Containers = []blueprint.Container{c}
		out = append(out, t)
	}
	return out
}

func composeContainer(name string, s *tree.Node, cut *cut) blueprint.Container {
	limits := s.Get("deploy").Get("resources").Get("limits")
	c := blueprint.Container{
		Name:             blueprint.KnownText(name, s.At),
		Image:            s.Get("image").AsText(),
		Built:            s.Exact("build") != nil,
		Privileged:       s.Get("privileged").AsBool(),
		User:             s.Get("user").AsText(),
		ReadOnlyRoot:     s.Get("read_only").AsBool(),
		Memory:           firstText(s.Get("mem_limit"), limits.Get("memory")),
		CPU:              firstText(s.Get("cpus"), s.Get("cpu_quota"), s.Get("cpu_shares"), limits.Get("cpus")),
		AddCapabilities:  s.Get("cap_add").AsTexts(),
		DropCapabilities: s.Get("cap_drop").AsTexts(),
		Init:             s.Get("init").AsBool(),
		Command:          wordsOf(s.Get("command")),
		Entrypoint:       wordsOf(s.Get("entrypoint")),
		SecurityOptions:  s.Get("security_opt").AsTexts(),
		Health:           stateOf(s.Get("healthcheck")),
		Log:              blueprint.Log{Is: stateOf(s.Get("logging")), Driver: s.Get("logging").Get("driver").AsText(), Mode: s.Get("logging").Get("options").Get("mode").AsText()},
	}
	c.UTS, c.UserNS, c.Cgroup = s.Get("uts").AsText(), s.Get("userns_mode").AsText(), s.Get("cgroup").AsText()
	c.Parent, c.Runtime, c.From = s.Get("cgroup_parent").AsText(), s.Get("runtime").AsText(), s.Get("volumes_from").AsTexts()
	c.PidsLimit = s.Get("pids_limit").AsNumber()
	c.Sysctls = composeEnvironment(s.Get("sysctls"), cut)
	c.HealthDisabled = blueprint.IsTrue(s.Get("healthcheck").Get("disable").AsBool())
	if d := s.Get("devices"); d.There() {
		c.Devices = blueprint.Texts{Is: blueprint.Known, At: d.At}
		for _, item := range atMost(d.Each(), maxEntries) {
			t := item.AsText()
			t.V, _, _ = strings.Cut(t.V, ":")
			c.Devices.V = append(c.Devices.V, t)
		}
	}
	c.Environment = composeEnvironment(s.Get("environment"), cut)
	for _, p := range within(cut, "ports of a service", s.Get("ports").Each(), maxEntries) {
		c.Ports = append(c.Ports, composePort(p))
	}
	for _, v := range within(cut, "volumes of a service", s.Get("volumes").Each(), maxEntries) {
		c.Mounts = append(c.Mounts, composeMount(v))
	}
	for _, v := range atMost(s.Get("tmpfs").Each(), maxEntries) {
		path, options, _ := strings.Cut(v.AsText().V, ":")
		m := blueprint.Tmpfs{Path: blueprint.KnownText(path, v.At), Options: blueprint.Texts{Is: blueprint.Known}, At: v.At}
		for o := range strings.SplitSeq(options, ",") {
			m.Options.V = append(m.Options.V, blueprint.KnownText(o, v.At))
		}
		c.Tmpfs = append(c.Tmpfs, m)
	}
	if u := s.Get("ulimits"); u != nil {
		for _, f := range atMost(u.Fields, maxEntries) {
			hard := f.Value.AsNumber()
			if f.Value.Kind == tree.Map {
				hard = f.Value.Get("hard").AsNumber()
			}
			c.Ulimits = append(c.Ulimits, blueprint.Ulimit{Name: blueprint.KnownText(f.Key, f.KeyAt), Hard: hard, At: f.KeyAt})
		}
	}
	return c
}

func firstText(nodes ...*tree.Node) blueprint.Text {
	for _, n := range nodes {
		if t := n.AsText(); !t.Absent() {
			return t
		}
	}
	return blueprint.Text{}
}

// wordsOf is a command as a list or as a line.
func wordsOf(n *tree.Node) blueprint.Texts {
	if n == nil || n.Kind != tree.Text {
		return n.AsTexts()
	}
	list := blueprint.Texts{Is: blueprint.Known, At: n.At}
	for w := range strings.FieldsSeq(n.Text) {
		list.V = append(list.V, blueprint.KnownText(w, n.At))
	}
	return list
}

func composeEnvironment(n *tree.Node, cut *cut) []blueprint.Variable {
	if n == nil {
		return nil
	}
	var out []blueprint.Variable
	for _, f := range within(cut, "environment entries of a service", n.Fields, maxEntries) {
		out = append(out, blueprint.Variable{Name: blueprint.KnownText(f.Key, f.KeyAt), Value: f.Value.AsText(), At: f.KeyAt})
	}
	for _, item := range within(cut, "environment entries of a service", n.Items, maxEntries) {
		name, value, ok := strings.Cut(item.Text, "=")
		if !ok {
			continue
		}
		v := blueprint.Variable{Name: blueprint.KnownText(name, item.At), Value: blueprint.KnownText(value, item.At), At: item.At}
		if item.Kind == tree.Unknown {
			v.Value.Is = blueprint.Unknown
		}
		out = append(out, v)
	}
	return out
}

// composePort reads 8080:80/tcp with an address before it, or the long form.
func composePort(n *tree.Node) blueprint.Port {
	if n.Kind == tree.Map {
		return blueprint.Port{Container: n.Get("target").AsNumber(), Host: n.Get("published").AsNumber(), At: n.At}
	}
	text, _, _ := strings.Cut(n.AsText().V, "/")
	parts := strings.Split(text, ":")
	p := blueprint.Port{Container: tree.TextAt(parts[len(parts)-1], n.At).AsNumber(), At: n.At}
	if len(parts) > 1 {
		p.Host = tree.TextAt(parts[len(parts)-2], n.At).AsNumber()
	}
	return p
}

// composeMount reads source:target:options, or the long form.
func composeMount(n *tree.Node) blueprint.Mount {
	m := blueprint.Mount{At: n.At}
	source := n.Get("source").AsText()
	bind := blueprint.Is(n.Get("type").AsText(), "bind")
	m.Path, m.ReadOnly = n.Get("target").AsText(), n.Get("read_only").AsBool()
	m.Propagation = n.Get("bind").Get("propagation").AsText()
	if n.Kind != tree.Map {
		parts := strings.Split(n.AsText().V, ":")
		if len(parts) < 2 || n.Kind == tree.Unknown {
			return m
		}
		source, bind = blueprint.KnownText(parts[0], n.At), strings.HasPrefix(parts[0], "/")
		m.Path = blueprint.KnownText(parts[1], n.At)
		if len(parts) > 2 {
			for o := range strings.SplitSeq(parts[2], ",") {
				switch {
				case o == "ro":
					m.ReadOnly = blueprint.Bool{V: true, Is: blueprint.Known, At: n.At}
				case strings.HasSuffix(o, "shared"), strings.HasSuffix(o, "slave"), strings.HasSuffix(o, "private"):
					m.Propagation = blueprint.KnownText(o, n.At)
				}
			}
		}
	}
	if bind {
		m.Host = source
	} else {
		m.Volume = source
	}
	return m
}

// interpolate puts the defaults of ${NAME:-default} into texts. A variable without
// one is known only where the file is used.
func interpolate(n *tree.Node, depth int) {
	if n.Kind == tree.Text && strings.Contains(n.Text, "$") {
		n.Text, n.Kind = interpolated(n.Text)
	}
	if depth > tree.MaxDepth {
		return
	}
	for _, item := range n.Items {
		interpolate(item, depth+1)
	}
	for i := range n.Fields {
		interpolate(n.Fields[i].Value, depth+1)
	}
}

func interpolated(text string) (string, tree.Kind) {
	var b strings.Builder
	kind, rest := tree.Text, text
	for {
		before, after, ok := strings.Cut(rest, "$")
		b.WriteString(before)
		if !ok || b.Len() > maxInterpolated {
			return b.String(), kind
		}
		if strings.HasPrefix(after, "$") { // $$ is a dollar
			b.WriteByte('$')
			rest = after[1:]
			continue
		}
		inner, braced := strings.CutPrefix(after, "{")
		if !braced {
			kind, rest = tree.Unknown, after
			b.WriteString("${…}")
			continue
		}
		name, tail, _ := strings.Cut(inner, "}")
		rest = tail
		if _, fallback, has := strings.Cut(name, ":-"); has && !strings.Contains(fallback, "$") {
			b.WriteString(fallback)
			continue
		}
		kind = tree.Unknown
		b.WriteString("${…}")
	}
}
