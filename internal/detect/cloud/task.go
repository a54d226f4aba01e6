package cloud

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/grant"
)

// deeper are paths below those that rule a host by which a container gets at it for
// certain; others there, such as /sys/fs/cgroup, are what agents for monitoring mount.
var deeper = []string{"/etc/cron.d", "/root/.ssh"}

// Faults returns what a task definition, or what overrides one, lets its containers do
// to their host, each as words: container app is privileged.
func Faults(request json.RawMessage) []string {
	v, ok := read(request)
	m, isMap := v.(map[string]any)
	if !ok || !isMap {
		return nil
	}
	var out []string
	add := func(fault string) {
		if len(out) < maxNames && !slices.Contains(out, fault) {
			out = append(out, fault)
		}
	}
	for key, words := range map[string]string{"networkMode": "the network of the host", "pidMode": "the processes of the host", "ipcMode": "the shared memory of the host"} {
		if s, _ := field(m, key).(string); s == "host" {
			add("all containers have " + words)
		}
	}
	paths := map[string]string{}
	for _, x := range items(field(m, "volumes")) {
		host, _ := field(x, "host").(map[string]any)
		source, _ := field(host, "sourcePath").(string)
		name, _ := field(x, "name").(string)
		if source == "" {
			continue
		}
		if source = path.Clean(source); asset.RulesHost(source) || asset.EngineSocket(source) != "" || slices.Contains(deeper, source) {
			paths[name] = source
		}
	}
	for _, c := range items(field(m, "containerDefinitions")) {
		containerFaults(c, paths, add)
	}
	slices.Sort(out)
	return out
}

func containerFaults(c map[string]any, paths map[string]string, add func(string)) {
	name, _ := field(c, "name").(string)
	who := "container " + name
	if is, _ := field(c, "privileged").(bool); is {
		add(who + " is privileged")
	}
	linux, _ := field(c, "linuxParameters").(map[string]any)
	capabilities, _ := field(linux, "capabilities").(map[string]any)
	for _, k := range texts(field(capabilities, "add")) {
		if k = strings.TrimPrefix(strings.ToUpper(k), "CAP_"); event.LeadsToHost(k) {
			add(who + " has the capability " + k)
		}
	}
	for _, o := range texts(field(c, "dockerSecurityOptions")) {
		if o = strings.ReplaceAll(o, "=", ":"); asset.Unconfined(o) {
			add(who + " has " + o)
		}
	}
	for _, p := range items(field(c, "mountPoints")) {
		volume, _ := field(p, "sourceVolume").(string)
		if source, ok := paths[volume]; ok {
			if readOnly, _ := field(p, "readOnly").(bool); readOnly && asset.EngineSocket(source) == "" && !strings.HasSuffix(source, "containerd") {
				add(who + " reads " + source + " of the host")
			} else {
				add(who + " has " + source + " of the host")
			}
		}
	}
}

// items are the maps of a list, which EC2 puts into a map of its own.
func items(v any) []map[string]any {
	if m, ok := v.(map[string]any); ok {
		v = field(m, "items")
	}
	list, _ := v.([]any)
	var out []map[string]any
	for _, x := range list[:min(len(list), maxParams)] {
		if m, ok := x.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Opens returns the ports that a call opens for all addresses, each as a number or as a
// range: 22, 0-65535, all.
func Opens(request json.RawMessage) []string {
	v, ok := read(request)
	m, isMap := v.(map[string]any)
	if !ok || !isMap {
		return nil
	}
	var out []string
	add := func(m map[string]any) {
		if ports := portsOf(m); len(out) < maxNames && !slices.Contains(out, ports) {
			out = append(out, ports)
		}
	}
	for _, p := range items(field(m, "ipPermissions")) {
		open := false
		for _, r := range append(items(field(p, "ipRanges")), items(field(p, "ipv6Ranges"))...) {
			v4, _ := field(r, "cidrIp").(string)
			v6, _ := field(r, "cidrIpv6").(string)
			open = open || grant.EveryAddress(v4) || grant.EveryAddress(v6)
		}
		if open {
			add(p)
		}
	}
	rules := field(m, "ModifySecurityGroupRulesRequest")
	if inner, ok := rules.(map[string]any); ok {
		m = inner
	}
	for _, name := range []string{"SecurityGroupRule", "securityGroupRules"} {
		of := items(field(m, name))
		if one, ok := field(m, name).(map[string]any); ok && len(of) == 0 {
			of = []map[string]any{one}
		}
		for _, x := range of {
			r := x
			if inner, ok := field(x, "SecurityGroupRule").(map[string]any); ok {
				r = inner
			}
			v4, _ := field(r, "cidrIpv4").(string)
			v6, _ := field(r, "cidrIpv6").(string)
			if grant.EveryAddress(v4) || grant.EveryAddress(v6) {
				add(r)
			}
		}
	}
	if cidr, _ := field(m, "cidrIp").(string); grant.EveryAddress(cidr) { // of a call of EC2's old form
		add(m)
	}
	return out
}

func portsOf(m map[string]any) string {
	number := func(name string) (int64, bool) {
		text, _ := scalar(field(m, name))
		n, err := strconv.ParseInt(text, 10, 32)
		return n, err == nil
	}
	from, ok := number("fromPort")
	to, okTo := number("toPort")
	protocol, _ := scalar(field(m, "ipProtocol"))
	switch {
	case protocol == "-1" || !ok || !okTo || from < 0:
		return "all"
	case from == to:
		return strconv.FormatInt(from, 10)
	}
	return strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(to, 10)
}
