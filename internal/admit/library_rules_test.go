package admit_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
)

// change makes a request one that a rule has something against.
type change func(*admission.Request, *admission.Facts)

func container(f func(*admission.Container)) change {
	return func(r *admission.Request, _ *admission.Facts) { f(&r.Task.Containers[0]) }
}

func asUser(users ...string) (all []change) {
	for _, u := range users {
		all = append(all, container(func(c *admission.Container) { c.User = u }))
	}
	return all
}

func task(f func(*admission.Task)) change {
	return func(r *admission.Request, _ *admission.Facts) { f(&r.Task) }
}

func image(f func(*admission.Image)) change {
	return func(r *admission.Request, _ *admission.Facts) { f(&r.Task.Containers[0].Image) }
}

func scanned(f func(*admission.Scan)) change {
	return func(_ *admission.Request, f2 *admission.Facts) { f(&f2.Scan) }
}

func trusted(f func(*admission.Trust)) change {
	return func(_ *admission.Request, f2 *admission.Facts) { f(&f2.Trust) }
}

func vulnerable(v admission.Vulnerability) change {
	return scanned(func(s *admission.Scan) { s.Vulnerabilities = []admission.Vulnerability{v} })
}

func mount(m admission.Mount) change {
	return container(func(c *admission.Container) { c.Mounts = []admission.Mount{m} })
}

func call(name string, action admission.Action, options ...string) change {
	return func(r *admission.Request, _ *admission.Facts) {
		r.Door, r.Action, r.Call = admission.Docker, action, &admission.Call{Method: "POST", Path: "/x", Name: name, Options: map[string]string{}}
		for _, o := range options {
			r.Call.Options[o] = "x"
		}
	}
}

// logs is a container whose logs go through a driver, with its options.
func logs(driver string, options ...string) change {
	return func(r *admission.Request, f *admission.Facts) {
		call("container create", admission.Run)(r, f)
		r.Task.Containers[0].Log = driver
		for i := 0; i+1 < len(options); i += 2 {
			r.Call.Options["HostConfig.LogConfig."+options[i]] = options[i+1]
		}
	}
}

func exec(p admission.Process) change {
	return func(r *admission.Request, f *admission.Facts) {
		call("exec create", admission.Exec)(r, f)
		r.Exec = &p
	}
}

func role(policy string) change {
	return task(func(t *admission.Task) {
		t.Roles = []admission.Role{{Use: "task", ARN: "arn:aws:iam::1:role/x", Known: true, Policies: []json.RawMessage{json.RawMessage(policy)}}}
	})
}

func repository(x admission.Repository) change {
	return func(r *admission.Request, _ *admission.Facts) {
		r.Repositories = []admission.Repository{x}
	}
}

func fault(m finding.Misconfiguration) change {
	return func(r *admission.Request, _ *admission.Facts) { r.Faults = []finding.Misconfiguration{m} }
}

func unscanned(_ *admission.Request, f *admission.Facts) { f.Scan = admission.Scan{} }
func unverified(_ *admission.Request, f *admission.Facts) {
	f.Trust = admission.Trust{}
}
func unknown(paths ...string) change {
	return func(r *admission.Request, _ *admission.Facts) { r.Unknown = paths }
}

// sane is a request that no rule has anything against, with its facts.
func sane() (admission.Request, admission.Facts) {
	r := admission.Request{ID: "1", Door: admission.Service, Action: admission.Run, FaultsKnown: true, Place: admission.Place{Cluster: "prod"},
		Task: admission.Task{Family: "shop", Network: "awsvpc", Containers: []admission.Container{{
			Name: "web", User: "1000", ReadOnlyRoot: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}, MemoryBytes: 512 << 20, PidsLimit: 100,
			Image: admission.Image{Reference: "registry.example.com/shop:1@sha256:aa", Registry: "registry.example.com", Repository: "shop", Tag: "1", Digest: "sha256:aa", Pinned: true},
		}}}}
	f := admission.Facts{Digest: "sha256:aa", At: now(), Created: now().AddDate(0, 0, -5), User: "1000", Owners: []string{"team-shop"},
		Users: &admission.Users{Root: []string{"app2", "root", "toor"}, Others: []string{"app", "daemon"}},
		Scan:  admission.Scan{State: admission.Known, At: now().AddDate(0, 0, -1), Database: now().AddDate(0, 0, -1)},
		Trust: admission.Trust{State: admission.Known, Allowed: true, Signers: []admission.Signer{
			{Names: []string{"release-team"}, Kind: "sigstore", At: now().AddDate(0, 0, -5)},
			{Names: []string{"build"}, Kind: "sigstore", Attests: "https://slsa.dev/provenance/v1", At: now().AddDate(0, 0, -5)}}}}
	return r, f
}

// example says of a rule when it has something against a request, and of what it
// depends.
type example struct {
	rule, with string
	fires      []change
	passes     []change // what looks alike, and is none
	unknown    []change
}

func examples() []example {
	critical := admission.Vulnerability{ID: "CVE-1", Package: "openssl", Version: "1", Severity: finding.Critical, Score: 9.8, EPSS: 0.9, Published: now().AddDate(0, 0, -30), KEV: true, Fixed: "2"}
	accepted := critical
	accepted.Accepted = true
	fresh, undated, unfixed := critical, critical, critical
	fresh.Published, undated.Published, unfixed.Fixed = now().AddDate(0, 0, -1), time.Time{}, ""
	secret := admission.Found{Rule: "aws-access-token", Title: "key of AWS", Severity: finding.High, Place: "/app/.env"}
	known := secret
	known.Accepted = true
	old := now().AddDate(0, 0, -100)
	end := now().AddDate(0, -1, 0)
	later := now().AddDate(0, 1, 0)
	return append([]example{
		{rule: "not-signed", fires: []change{trusted(func(t *admission.Trust) { t.Allowed = false }), trusted(func(t *admission.Trust) { t.Until = end })}, passes: []change{trusted(func(t *admission.Trust) { t.Until = later })}, unknown: []change{unverified}},
		{rule: "signer", with: "{signers: [release-team]}", fires: []change{trusted(func(t *admission.Trust) { t.Signers = t.Signers[1:] })}, unknown: []change{unverified}},
		{rule: "attestation", with: "{types: [https://slsa.dev/provenance/*], signers: [build], max_age: 30d}", fires: []change{
			trusted(func(t *admission.Trust) { t.Signers = t.Signers[:1] }), trusted(func(t *admission.Trust) { t.Signers[1].At = old }), trusted(func(t *admission.Trust) { t.Signers[1].Names = nil })}, unknown: []change{unverified}},
		{rule: "vulnerabilities", fires: []change{vulnerable(critical)}, passes: []change{vulnerable(accepted), vulnerable(admission.Vulnerability{ID: "CVE-2", Severity: finding.High})}, unknown: []change{unscanned}},
		{rule: "vulnerabilities", with: "{severity: high, fixable: true, grace: 14d, score: 9, epss: 0.5, packages: [open*]}", fires: []change{vulnerable(critical)}, passes: []change{vulnerable(fresh), vulnerable(unfixed)}, unknown: []change{vulnerable(undated)}},
		{rule: "vulnerabilities", with: "{except: [CVE-1]}", fires: []change{vulnerable(admission.Vulnerability{ID: "CVE-2", Severity: finding.Critical})}, passes: []change{vulnerable(critical)}},
		{rule: "exploited-vulnerabilities", fires: []change{vulnerable(critical)}, passes: []change{vulnerable(accepted)}, unknown: []change{unscanned}},
		{rule: "likely-exploited-vulnerabilities", fires: []change{vulnerable(critical)}, passes: []change{vulnerable(accepted)}, unknown: []change{unscanned}},
		{rule: "too-many-vulnerabilities", fires: []change{scanned(func(s *admission.Scan) {
			for range 101 {
				s.Vulnerabilities = append(s.Vulnerabilities, critical)
			}
		})}, passes: []change{vulnerable(critical)}, unknown: []change{unscanned}},
		{rule: "not-scanned", unknown: []change{unscanned}},
		{rule: "scan-too-old", fires: []change{scanned(func(s *admission.Scan) { s.At = old }), scanned(func(s *admission.Scan) { s.Database = old })}, unknown: []change{unscanned, scanned(func(s *admission.Scan) { s.Database = time.Time{} })}},
		{rule: "scan-incomplete", fires: []change{scanned(func(s *admission.Scan) { s.Lost = true })}, unknown: []change{unscanned}},
		{rule: "secrets-in-image", fires: []change{scanned(func(s *admission.Scan) { s.Secrets = []admission.Found{secret} })}, passes: []change{scanned(func(s *admission.Scan) { s.Secrets = []admission.Found{known} })}, unknown: []change{unscanned}},
		{rule: "malware", fires: []change{scanned(func(s *admission.Scan) { s.Malware = []admission.Found{secret} })}, passes: []change{scanned(func(s *admission.Scan) { s.Malware = []admission.Found{known} })}, unknown: []change{unscanned}},
		{rule: "image-faults", fires: []change{scanned(func(s *admission.Scan) { s.Faults = []admission.Found{secret} })}, passes: []change{scanned(func(s *admission.Scan) { s.Faults = []admission.Found{known} })}, unknown: []change{unscanned}},
		{rule: "end-of-life", fires: []change{scanned(func(s *admission.Scan) { s.EndOfLife = &end })}, passes: []change{scanned(func(s *admission.Scan) { s.EndOfLife = &later })}, unknown: []change{unscanned}},
		{rule: "registry", with: `{allowed: ["registry.*.com"]}`, fires: []change{image(func(i *admission.Image) { i.Registry = "docker.io" }), image(func(i *admission.Image) { i.Registry = "" })}, unknown: []change{unknown("task.containers[0].image")}},
		{rule: "repository", with: "{allowed: [shop, team/*]}", fires: []change{image(func(i *admission.Image) { i.Repository = "team/a/b" })}, passes: []change{image(func(i *admission.Image) { i.Repository = "team/a" })}, unknown: []change{unknown("task.containers")}},
		{rule: "latest", fires: []change{image(func(i *admission.Image) { i.Tag, i.Pinned = "latest", false }), image(func(i *admission.Image) { i.Tag, i.Pinned = "", false })}, passes: []change{image(func(i *admission.Image) { i.Tag = "latest" })}, unknown: []change{unknown("task.containers[0].image")}},
		{rule: "not-pinned", fires: []change{image(func(i *admission.Image) { i.Pinned = false })}, unknown: []change{unknown("task.containers[0].image")}},
		{rule: "image-too-old", fires: []change{func(_ *admission.Request, f *admission.Facts) { f.Created = old }}, unknown: []change{unscanned, func(_ *admission.Request, f *admission.Facts) { f.Created = time.Time{} }}},
		{rule: "no-owner", fires: []change{func(_ *admission.Request, f *admission.Facts) { f.Owners = nil }}, unknown: []change{unscanned}},
	}, append(runtimeExamples(), requestExamples()...)...)
}

func runtimeExamples() []example {
	bind := func(source string) change { return mount(admission.Mount{Kind: "bind", Source: source, Target: "/x"}) }
	return []example{
		{rule: "privileged", fires: []change{container(func(c *admission.Container) { c.Privileged = true })}, unknown: []change{unknown("task.containers[0].privileged"), unknown("task.containers")}},
		{rule: "host-network", fires: []change{task(func(t *admission.Task) { t.Network = "host" }), container(func(c *admission.Container) { c.Network = "host" }), func(r *admission.Request, _ *admission.Facts) {
			r.Task.Network, r.Task.Containers[0].Network = "host", "container:agent"
		}}, passes: []change{container(func(c *admission.Container) { c.Network = "container:pause" })}, unknown: []change{unknown("task.network")}},
		{rule: "host-namespaces", fires: []change{task(func(t *admission.Task) { t.PID = "host" }), task(func(t *admission.Task) { t.IPC = "host" }), container(func(c *admission.Container) { c.UTS = "host" }), container(func(c *admission.Container) { c.UserNS = "host" }), container(func(c *admission.Container) { c.Cgroup = "host" }), container(func(c *admission.Container) { c.PID = "container:abc" })}, passes: []change{task(func(t *admission.Task) { t.PID = "task" })}, unknown: []change{unknown("task.pid")}},
		{rule: "host-namespaces", with: "{containers: false}", fires: []change{func(r *admission.Request, _ *admission.Facts) {
			r.Task.PID, r.Task.Containers[0].PID = "host", "container:agent"
		}}, passes: []change{container(func(c *admission.Container) { c.PID = "container:abc" })}},
		{rule: "dangerous-mounts", fires: []change{bind("/home/ec2-user/.ssh"), bind("/run/udev/rules.d"), bind("/run/nri/nri.sock"), bind("/var/snap/lxd/common"), bind("/"), bind("/etc"), bind("/etc/../etc/ssh/"), bind("//var//run/docker.sock"), bind("/var"), bind("/proc/1"), bind("/var/lib")}, passes: []change{bind("/data"), bind("/runner/work"), bind("/etcetera"), mount(admission.Mount{Kind: "volume", Source: "etc"})}, unknown: []change{unknown("task.containers[0].mounts")}},
		{rule: "host-mounts", with: "{allowed: [/data]}", fires: []change{bind("/srv"), bind("/data/../srv")}, passes: []change{bind("/data/a")}},
		{rule: "volume-of-the-host", fires: []change{task(func(t *admission.Task) { t.Volumes = []admission.Volume{{Name: "v", Host: "/etc"}} }), task(func(t *admission.Task) {
			t.Volumes = []admission.Volume{{Name: "v", Driver: "local", Options: map[string]string{"o": "bind", "device": "/etc"}}}
		})}, passes: []change{task(func(t *admission.Task) { t.Volumes = []admission.Volume{{Name: "v"}} })}, unknown: []change{unknown("task.volumes")}},
		{rule: "shared-mounts", fires: []change{mount(admission.Mount{Kind: "bind", Source: "/a", Propagation: "rshared"})}, passes: []change{mount(admission.Mount{Kind: "bind", Source: "/a", Propagation: "rprivate"})}},
		{rule: "devices", with: "{allowed: [/dev/fuse]}", fires: []change{container(func(c *admission.Container) { c.Devices = []string{"/dev/fuse", "/dev/sda"} })}, passes: []change{container(func(c *admission.Container) { c.Devices = []string{"/dev/fuse"} })}, unknown: []change{unknown("task.containers[0].devices")}},
		{rule: "capabilities", fires: []change{container(func(c *admission.Container) { c.CapAdd = []string{"SYS_ADMIN"} }), container(func(c *admission.Container) { c.CapAdd = []string{"cap_sys_ptrace"} }), container(func(c *admission.Container) { c.CapAdd = []string{"ALL"} })}, passes: []change{container(func(c *admission.Container) { c.CapAdd = []string{"CAP_CHOWN"} })}, unknown: []change{unknown("task.containers[0].cap_add")}},
		{rule: "capabilities-kept", fires: []change{container(func(c *admission.Container) { c.CapDrop = nil })}, passes: []change{container(func(c *admission.Container) { c.CapDrop = []string{"CAP_NET_RAW"} })}},
		{rule: "unconfined", fires: []change{container(func(c *admission.Container) { c.SecurityOpt = []string{"seccomp=unconfined"} }), container(func(c *admission.Container) { c.SecurityOpt = []string{"AppArmor:Unconfined"} }), container(func(c *admission.Container) { c.SecurityOpt = []string{"label:disable"} }), container(func(c *admission.Container) { c.SecurityOpt = []string{"writable-cgroups=true"} }), container(func(c *admission.Container) { c.SecurityOpt = []string{"apparmor=crun"} }), container(func(c *admission.Container) { c.SecurityOpt = []string{"label:type:super_t"} })},
			passes: []change{container(func(c *admission.Container) { c.SecurityOpt = []string{"seccomp=/my.json"} }), container(func(c *admission.Container) {
				c.SecurityOpt = []string{"apparmor:castellan-shop.web.nginx", "apparmor=docker-default", "label=type:castellan_shop.process"}
			})}, unknown: []change{unknown("task.containers[0].security_opt")}},
		{rule: "new-privileges", fires: []change{container(func(c *admission.Container) { c.SecurityOpt = nil }), container(func(c *admission.Container) { c.SecurityOpt = []string{"no-new-privileges=false"} })}, passes: []change{container(func(c *admission.Container) { c.SecurityOpt = []string{"no-new-privileges:true"} })}},
		{rule: "root-user", fires: slices.Concat(asUser("0", "0:0", "+0", "-0", "00", "-00:5", "root", "root:users", ":5", " root", "toor", "toor:users", "toor:1000", "nobody-knows", "nobody-knows:1000", "-1", "99999999999999999999", "app2"), []change{
			func(r *admission.Request, f *admission.Facts) { r.Task.Containers[0].User, f.User = "", "" },
			func(r *admission.Request, f *admission.Facts) { r.Task.Containers[0].User, f.User = "", "toor:users" },
			func(r *admission.Request, f *admission.Facts) {
				f.Users, r.Task.Containers[0].User = &admission.Users{}, "app"
			},
		}), passes: append(asUser("app", "app:0", "1000", "1000:0", "+1000"), asUser("")...), unknown: []change{
			func(r *admission.Request, f *admission.Facts) {
				r.Task.Containers[0].User, f.User, f.Scan = "", "", admission.Scan{}
			},
			func(r *admission.Request, f *admission.Facts) {
				r.Task.Containers[0].User, f.Scan = "app", admission.Scan{}
			},
			func(r *admission.Request, f *admission.Facts) { r.Task.Containers[0].User, f.Users = "app:0", nil },
			func(r *admission.Request, f *admission.Facts) {
				f.User, r.Task.Containers[0].User, f.Users = "app", "", nil
			},
			unknown("task.containers[0].user"),
		}},
		{rule: "root-user", with: "{named: false}", fires: asUser("toor", "app:1000", "0"), passes: asUser("1000:app", "+65534"), unknown: []change{unknown("task.containers[0].user")}},
		{rule: "writable-root", fires: []change{container(func(c *admission.Container) { c.ReadOnlyRoot = false })}},
		{rule: "memory-limit", with: "{most_mib: 1024}", fires: []change{container(func(c *admission.Container) { c.MemoryBytes = 0 }), container(func(c *admission.Container) { c.MemoryBytes = 2 << 30 })}, unknown: []change{unknown("task.containers[0].memory_bytes")}},
		{rule: "pids-limit", fires: []change{func(r *admission.Request, _ *admission.Facts) {
			r.Door, r.Task.Containers[0].PidsLimit = admission.Docker, -1
		}}, passes: []change{container(func(c *admission.Container) { c.PidsLimit = 0 })}},
		{rule: "host-ports", fires: []change{func(r *admission.Request, _ *admission.Facts) {
			r.Task.Network, r.Task.Containers[0].Ports = "bridge", []admission.Port{{Container: 80, Host: 8080}}
		}}, passes: []change{func(r *admission.Request, _ *admission.Facts) {
			r.Task.Network, r.Task.Containers[0].Ports = "bridge", []admission.Port{{Container: 80}}
		}, container(func(c *admission.Container) { c.Ports = []admission.Port{{Container: 80, Host: 80}} })}},
		{rule: "privileged-ports", fires: []change{container(func(c *admission.Container) { c.Ports = []admission.Port{{Container: 22}} })}, passes: []change{container(func(c *admission.Container) { c.Ports = []admission.Port{{Container: 80}} })}},
		{rule: "cgroup-parent", fires: []change{container(func(c *admission.Container) { c.Parent = "/system.slice" })}, passes: []change{container(func(c *admission.Container) { c.Parent = "/ecs/abc/def" })}},
		{rule: "runtime", fires: []change{container(func(c *admission.Container) { c.Runtime = "mine" })}, passes: []change{container(func(c *admission.Container) { c.Runtime = "runc" })}},
		{rule: "sysctls", fires: []change{container(func(c *admission.Container) { c.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1"} })}, passes: []change{container(func(c *admission.Container) { c.Sysctls = map[string]string{"net.core.somaxconn": "1"} })}},
		{rule: "volumes-from", fires: []change{container(func(c *admission.Container) { c.From = []string{"other"} })}},
		{rule: "variables", fires: []change{container(func(c *admission.Container) { c.Env = []admission.Variable{{Name: "LD_PRELOAD"}} })}, passes: []change{container(func(c *admission.Container) { c.Env = []admission.Variable{{Name: "HOME"}} })}, unknown: []change{unknown("task.containers[0].env")}},
		{rule: "ecs-exec", fires: []change{task(func(t *admission.Task) { t.Exec = true })}, unknown: []change{unknown("task.exec")}},
		{rule: "public-ip", fires: []change{task(func(t *admission.Task) { t.PublicIP = true })}, unknown: []change{unknown("task.public_ip")}},
		{rule: "families", with: "{allowed: [shop*]}", fires: []change{task(func(t *admission.Task) { t.Family = "other" })}, unknown: []change{unknown("task")}},
		{rule: "task-faults", fires: []change{fault(finding.Misconfiguration{Check: "CAST-TASK-001", Severity: finding.High, Title: "Container is privileged", Remedy: "Leave it out"})}, passes: []change{fault(finding.Misconfiguration{Check: "CAST-TASK-002", Severity: finding.Medium})}, unknown: []change{func(r *admission.Request, _ *admission.Facts) { r.FaultsKnown = false }}},
		{rule: "secrets-in-environment", fires: []change{fault(finding.Misconfiguration{Check: "CAST-TASK-016"})}, passes: []change{fault(finding.Misconfiguration{Check: "CAST-TASK-001"})}, unknown: []change{func(r *admission.Request, _ *admission.Facts) { r.FaultsKnown = false }}},
	}
}

func requestExamples() []example {
	some := role(`{"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}`)
	secretRole := task(func(t *admission.Task) { t.Roles = []admission.Role{{Use: "task", ARN: "arn:aws:iam::1:role/x"}} })
	broken := role(`{"Statement": 7}`)
	agent := func(c change) change {
		return func(r *admission.Request, f *admission.Facts) {
			c(r, f)
			r.By.Agent = true
		}
	}
	return []example{
		{rule: "role-admin", fires: []change{role(`{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`), role(`{"Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "*:*"], "Resource": ["*"]}]}`)}, passes: []change{some, role(`{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}`), role(`{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::a"}}`)}, unknown: []change{secretRole, broken, unknown("task.roles")}},
		{rule: "role-all-but", fires: []change{role(`{"Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}}`)}, passes: []change{some}, unknown: []change{secretRole}},
		{rule: "role-whole-services", with: "{services: [s3, iam]}", fires: []change{role(`{"Statement": {"Effect": "Allow", "Action": "S3:*", "Resource": "*"}}`)}, passes: []change{some, role(`{"Statement": {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}}`)}, unknown: []change{secretRole}},
		{rule: "role-pass-role", fires: []change{role(`{"Statement": {"Effect": "Allow", "Action": "iam:Pass*", "Resource": "*"}}`), role(`{"Statement": {"Effect": "Allow", "NotAction": "s3:*", "NotResource": "arn:aws:iam::1:role/a"}}`), role(`{"Statement": {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/*"}}`)}, passes: []change{some, role(`{"Statement": {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::1:role/web-*"}}`), role(`{"Statement": {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}}}`)}, unknown: []change{secretRole}},
		{rule: "role-escalation", fires: []change{role(`{"Statement": {"Effect": "Allow", "Action": "iam:Put*", "Resource": "*"}}`), role(`{"Statement": [{"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}, {"Effect": "Allow", "Action": ["ec2:*"], "Resource": "*"}]}`)}, passes: []change{some, role(`{"Statement": {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}}`)}, unknown: []change{secretRole, broken}},
		{rule: "role-actions", with: "{refused: [kms:ScheduleKeyDeletion]}", fires: []change{role(`{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}`)}, passes: []change{some}, unknown: []change{secretRole}},
		{rule: "exec", fires: []change{exec(admission.Process{Command: []string{"sh"}})}, passes: []change{agent(exec(admission.Process{Command: []string{"sh"}}))}},
		{rule: "exec-privileged", fires: []change{exec(admission.Process{Privileged: true})}, passes: []change{exec(admission.Process{})}},
		{rule: "exec-as-root", fires: []change{exec(admission.Process{User: "root"}), exec(admission.Process{User: "toor"}), exec(admission.Process{User: "ghost:0"}), func(r *admission.Request, f *admission.Facts) {
			exec(admission.Process{})(r, f)
			r.Task.Containers[0].User, f.User = "", ""
		}}, passes: []change{exec(admission.Process{User: "app"}), exec(admission.Process{})}, unknown: []change{func(r *admission.Request, f *admission.Facts) {
			exec(admission.Process{User: "app"})(r, f)
			f.Users = nil
		}, func(r *admission.Request, f *admission.Facts) {
			exec(admission.Process{User: "app"})(r, f)
			r.Task.Containers = nil
		}, func(r *admission.Request, f *admission.Facts) {
			exec(admission.Process{})(r, f)
			r.Task.Containers[0].User, f.User, f.Scan = "", "", admission.Scan{}
		}}},
		{rule: "copy", fires: []change{call("container archive put", admission.Copy)}},
		{rule: "change", fires: []change{call("container update", admission.Change)}, passes: []change{agent(call("container update", admission.Change))}},
		{rule: "build", fires: []change{call("image build", admission.Build)}},
		{rule: "build-network", fires: []change{call("image build", admission.Build, "networkmode")}, passes: []change{call("image build", admission.Build), call("image build", admission.Build, "remote")}},
		{rule: "load", fires: []change{call("image load", admission.Pull), call("image pull", admission.Pull, "fromSrc")}, passes: []change{call("image pull", admission.Pull), agent(call("image load", admission.Pull))}},
		{rule: "plugins", fires: []change{call("plugin install", admission.Engine)}, passes: []change{call("volume create", admission.Engine)}},
		{rule: "swarm", fires: []change{call("swarm change", admission.Engine), call("service create", admission.Engine)}, passes: []change{call("network create", admission.Engine)}},
		{rule: "unknown-call", fires: []change{call("unknown", admission.Engine), call("", admission.Run)}, passes: []change{call("container create", admission.Run)}},
		{rule: "engine-changes", fires: []change{call("image prune", admission.Engine)}, passes: []change{call("volume create", admission.Engine), agent(call("image prune", admission.Engine))}},
		{rule: "runtime-annotations", fires: []change{call("container create", admission.Run, "HostConfig.Annotations.run.oci.hooks.stdout"), call("container start", admission.Run, "HostConfig.Annotations.org.systemd.property.DevicePolicy")},
			passes: []change{call("container create", admission.Run, "HostConfig.Annotations.com.example.team", "HostConfig.GroupAdd")}},
		{rule: "log-destination", with: "{drivers: [awslogs, fluentd], addresses: ['tcp://collector.example:*']}", fires: []change{
			logs("syslog"), logs("fluentd", "fluentd-address", "unix:///run/docker.sock"), logs("fluentd", "fluentd-address", ""),
			logs("awslogs", "awslogs-credentials-endpoint", "/v2/credentials/x"), logs("awslogs", "awslogs-endpoint", "http://169.254.169.254"),
		}, passes: []change{
			logs(""), logs("awslogs"), logs("awslogs", "awslogs-group", "shop"), logs("fluentd", "fluentd-address", "tcp://collector.example:24224"),
			agent(logs("fluentd", "fluentd-address", "unix:///var/lib/ecs/data/firelens/t/socket/fluent.sock")),
		}},
		{rule: "host-interfaces", fires: []change{func(r *admission.Request, f *admission.Facts) {
			call("network create", admission.Engine)(r, f)
			r.Call.Options["Driver"] = "macvlan"
		}}, passes: []change{call("network create", admission.Engine, "Driver"), call("network create", admission.Engine)}},
		{rule: "mutable-tags", fires: []change{repository(admission.Repository{Name: "a"})}, passes: []change{repository(admission.Repository{Name: "a", Immutable: true})}},
		{rule: "no-scan-on-push", fires: []change{repository(admission.Repository{Name: "a"})}, passes: []change{repository(admission.Repository{Name: "a", ScanOnPush: true})}},
		{rule: "no-key", fires: []change{repository(admission.Repository{Name: "a"})}, passes: []change{repository(admission.Repository{Name: "a", Key: "k"})}},
		{rule: "public-repository", fires: []change{
			repository(admission.Repository{Name: "a", Policy: json.RawMessage(`{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}}`)}),
			repository(admission.Repository{Name: "a", Policy: json.RawMessage(`"{\"Statement\": [{\"Effect\": \"Allow\", \"Principal\": {\"AWS\": [\"*\"]}, \"Action\": [\"ecr:BatchGetImage\"], \"Condition\": {\"StringLike\": {\"aws:UserAgent\": \"x\"}}}]}"`)}),
		}, passes: []change{
			repository(admission.Repository{Name: "a"}),
			repository(admission.Repository{Name: "a", Policy: json.RawMessage(`{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "ecr:*"}}`)}),
			repository(admission.Repository{Name: "a", Policy: json.RawMessage(`{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "ecr:*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}}`)}),
		}, unknown: []change{repository(admission.Repository{Name: "a", Policy: json.RawMessage(`[]`)})}},
	}
}
