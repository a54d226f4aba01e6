// Package consoletest is a small shop as values: two hosts, an ECS service of
// five containers, what ran in them, and what attackers left there, hostile
// names included. Tests of the console and of the browser show it.
//
// It is not for production code. It is values; only Fill knows of a store.
package consoletest

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
)

// Names that tests look for.
const (
	AgentID      = "a1f0c2d4e6b8"
	Agent2ID     = "b7d3e5f19c20"
	Boot         = "boot-0001"
	Storefront   = "3f9ac1d7b2e84c0f9a6d51e2c7b08f4d6e1a2b3c4d5e6f708192a3b4c5d6e7f8"
	API          = "9b1c47a2d0e35f6b8c9d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d"
	Worker       = "c4d2e8f0a1b3c5d7e9f1a3b5c7d9e1f3a5b7c9d1e3f5a7b9c1d3e5f7a9b1c3d5"
	DB           = "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
	Client       = "5152535455565758596061626364656667686970717273747576777879808182"
	Hostile      = "666f6f6261720000000000000000000000000000000000000000000000000001"
	HostileName  = `<img src=x onerror=alert(1)>"'&` + "\u202egnp.exe\u200b\x1b[31m"
	HostileArg   = "</script><script>alert(document.cookie)</script>\n\u202etxt.sh"
	HostileGroup = asset.Group("docker/" + HostileName)
)

// Shop is everything that the console shows.
type Shop struct {
	Agents    []asset.Agent
	Workloads []asset.Workload
	Running   []event.Running
	Events    []event.Event // in order of time, IDs and Seqs from 1
	Samples   []asset.Sample
	Images    []Image
}

// New returns the shop as it is at now.
func New(now time.Time) Shop {
	now = now.UTC().Truncate(time.Millisecond)
	s := Shop{Agents: agents(now), Workloads: workloads(now)}
	b := &builder{now: now}
	b.ordinary()
	b.attacks()
	b.senses(s.Workloads)
	slices.SortStableFunc(b.events, func(x, y event.Event) int { return x.Time.Compare(y.Time) })
	for i := range b.events {
		b.events[i].ID = int64(i + 1)
		b.events[i].Seq = uint64(i + 1)
	}
	s.Events, s.Running, s.Samples, s.Images = b.events, running(now), samples(now), shopImages(now)
	return s
}

func agents(now time.Time) []asset.Agent {
	one := asset.Agent{
		ID: AgentID, Boot: Boot, Hostname: "ip-10-0-3-17", Version: "0.1.0",
		Started: now.Add(-26 * time.Hour), Seen: now.Add(-2 * time.Second),
		Host: asset.Host{
			OS: "Amazon Linux 2023", Kernel: "6.1.119-129.201.amzn2023.x86_64", Arch: "amd64",
			BootID: "5c1f", CPUs: 4, Memory: 16 << 30, Cgroup: "v2", BTF: true,
			LSMs:      []string{"lockdown", "capability", "yama", "apparmor", "bpf"},
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.3.17"), netip.MustParseAddr("172.17.0.1")},
			Instance:  "arn:aws:ecs:eu-central-1:123456789012:container-instance/shop/7a1b", Cluster: "shop",
		},
		Engine:  asset.Engine{Name: "Docker", Version: "27.5.1", APIVersion: "1.47", Connected: true},
		Sensors: sensors(412_388),
		Rungs: []asset.Rung{
			{Control: "exec", Best: "BPF LSM bprm_check_security", Enforces: true, Why: "bpf is among the active security modules, and a trial program was accepted"},
			{Control: "file", Best: "BPF LSM file_open", Enforces: true, Why: "as for exec"},
			{Control: "network", Best: "cgroup connect and skb programs", Enforces: true, Why: "the unified hierarchy is mounted"},
			{Control: "privilege", Best: "BPF LSM", Enforces: true, Why: "as for exec"},
		},
		Usage:     asset.Usage{CPUSeconds: 331, RSS: 41 << 20, Goroutines: 24},
		Events:    412_388,
		Clock:     40 * time.Millisecond,
		Abilities: []string{link.AbilityVerify, link.AbilityAdmit},
		Spool:     asset.Spool{Limit: 256 << 20},
	}
	two := one
	two.ID, two.Hostname, two.Abilities = Agent2ID, "ip-10-0-7-203", nil
	two.Seen = now.Add(-4 * time.Second)
	two.Host.OS, two.Host.Kernel, two.Host.Arch, two.Host.Cgroup = "Amazon Linux 2", "5.10.230-223.885.amzn2.aarch64", "arm64", "v1"
	two.Host.LSMs = []string{"lockdown", "capability", "yama", "safesetid"}
	two.Host.Addresses = []netip.Addr{netip.MustParseAddr("10.0.7.203"), netip.MustParseAddr("172.17.0.1")}
	two.Clock = -4200 * time.Millisecond
	two.Spool = asset.Spool{Events: 18_204, Bytes: 5 << 20, Limit: 256 << 20, Oldest: now.Add(-7 * time.Minute)}
	two.Settings = asset.AgentSettings{SensorsOff: []string{"dns"}, SensitivePaths: []string{"/srv/keys/*"}, Window: 30 * time.Second}
	two.Host.Missing = []string{
		"No BPF LSM: bpf is not among the active security modules. Programs are stopped by a signal at their start instead, which is a moment later.",
		"No fentry: this kernel has no trampolines on arm64. Sensors use raw tracepoints, which cost slightly more.",
	}
	two.Sensors = sensors(96_120)
	two.Sensors[0].Lost = 1_204
	two.Sensors[3].State, two.Sensors[3].Reason, two.Sensors[3].Events = asset.SensorOff, "switched off by the settings from the server", 0
	two.Sensors[5].State, two.Sensors[5].Reason, two.Sensors[5].Events = asset.SensorFailed, "the kernel has no bpf_d_path for this hook", 0
	two.Sensors[5].Remedy = "a kernel of 5.15 or newer has it"
	two.Rungs = []asset.Rung{
		{Control: "exec", Best: "signal at sched_process_exec", Enforces: true, Why: "bpf is not among the active security modules; bpf_send_signal works"},
		{Control: "file", Best: "BPF LSM", Enforces: true, Why: "a BPF security module program was taken"},
		{Control: "network", Best: "report only", Why: "the unified hierarchy is not mounted"},
		{Control: "privilege", Best: "report only", Why: "no security module to ask"},
	}
	two.Losses = []asset.Loss{{Where: "kernel ring", Count: 1_204}, {Where: "agent queue", Count: 38}}
	two.Events = 96_120
	return []asset.Agent{one, two}
}

// addresses are those of the shop's containers on the bridges of their hosts.
var addresses = map[string]string{
	"storefront": "172.17.0.2", "api": "172.17.0.3", "store": "172.17.0.4", "client": "172.17.0.5", "worker": "172.17.0.2",
}

func sensors(n uint64) []asset.Sensor {
	out := make([]asset.Sensor, 0, len(names))
	for i, name := range names {
		out = append(out, asset.Sensor{Name: name, State: asset.SensorRunning, Events: n >> (2 * i)})
	}
	return out
}

var names = []string{"process", "file", "network", "dns", "privilege", "memory", "resource"}

func workloads(now time.Time) []asset.Workload {
	start := now.Add(-3*time.Hour - 12*time.Minute)
	ecs := func(id, name, image string, more func(*asset.Workload)) asset.Workload {
		began := start
		w := asset.Workload{
			ID: id, AgentID: AgentID, Name: "ecs-shop-" + name + "-4-" + name, State: asset.Running, PID: 4_000,
			ECS: asset.ECS{
				Account: "123456789012", Region: "eu-central-1", Cluster: "shop", Service: name, Family: "shop-" + name,
				Revision: "4", TaskARN: "arn:aws:ecs:eu-central-1:123456789012:task/shop/1f6a0b9c8d7e4f3a2b1c" + id[:12],
				TaskID: "1f6a0b9c8d7e4f3a2b1c" + id[:12], Container: name,
			},
			Image: asset.Image{
				Reference: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/" + image,
				ID:        ImageID(strings.TrimPrefix(image, "shop/")), Digest: "sha256:" + strings.Repeat("9f3c", 16),
				Layers: []string{"sha256:" + strings.Repeat("c1d2", 16), "sha256:" + strings.Repeat("0e5f", 16), "sha256:" + strings.Repeat("77a0", 16)},
			},
			Created: start.Add(-time.Second), Started: &began, Updated: now.Add(-time.Minute),
			Settings: asset.Settings{
				User: "1000:1000", Entrypoint: []string{"/" + name, "--listen", ":8080"}, ReadOnlyRoot: true,
				NetworkMode: "bridge", IPCMode: "private", CapDrop: []string{"ALL"},
				MemoryLimit: 256 << 20, PidsLimit: 128,
				Addresses: []netip.Addr{netip.MustParseAddr(addresses[name])},
				Ports:     []asset.Port{{Protocol: "tcp", Port: 8080}},
			},
		}
		if more != nil {
			more(&w)
		}
		w.Group = asset.GroupOf(w)
		return w
	}
	return append([]asset.Workload{
		ecs(Storefront, "storefront", "shop/storefront:2.4.1", func(w *asset.Workload) {
			w.Settings.ReadOnlyRoot, w.Settings.User, w.Settings.CapDrop = false, "", nil
			w.Settings.PidsLimit = 0
			w.Settings.Ports = []asset.Port{{Protocol: "tcp", Port: 8080, HostPort: 8080, HostAddr: netip.IPv4Unspecified()}}
			w.Settings.Mounts = []asset.Mount{{Kind: "bind", Source: "/var/run/docker.sock", Target: "/var/run/docker.sock"},
				{Kind: "volume", Source: "uploads", Target: "/uploads"}, {Kind: "tmpfs", Target: "/tmp"}}
		}),
		ecs(API, "api", "shop/api:2.4.1", nil),
		ecs(Worker, "worker", "shop/worker:2.4.0", func(w *asset.Workload) { w.ECS.Service = ""; w.AgentID = Agent2ID }),
		ecs(DB, "store", "shop/store:16", func(w *asset.Workload) {
			w.Settings.Mounts = []asset.Mount{{Kind: "volume", Source: "store-data", Target: "/data"}}
		}),
		ecs(Client, "client", "shop/client:1.0.0", func(w *asset.Workload) {
			end, code := now.Add(-40*time.Minute), 137
			w.State, w.Finished, w.ExitCode, w.OOMKilled, w.PID = asset.Exited, &end, &code, true, 0
		}),
	}, hostile(now))
}

// hostile is a container of plain Docker whose name and settings are attacks.
func hostile(now time.Time) asset.Workload {
	began := now.Add(-9 * time.Minute)
	w := asset.Workload{
		ID: Hostile, AgentID: AgentID, Name: HostileName, State: asset.Running, PID: 6_660,
		Image:   asset.Image{Reference: HostileReference, ID: ImageID("hostile")},
		Created: began, Started: &began, Updated: began,
		Settings: asset.Settings{
			Privileged: true, NetworkMode: "host", PIDMode: "host", CapAdd: []string{"SYS_ADMIN"},
			SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
			Entrypoint:  []string{"/bin/sh", "-c", HostileArg},
			Mounts:      []asset.Mount{{Kind: "bind", Source: "/", Target: "/host" + HostileName}},
		},
	}
	w.Group = asset.GroupOf(w)
	return w
}
