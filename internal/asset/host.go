package asset

import (
	"path"
	"slices"
	"strings"
)

// What of its host a container gets by its settings is said here once, for all who
// judge settings: of files that say how containers are run, of calls that register
// them, and of containers that run.

// EngineSocket names the engine whose socket a path is; empty for none. Whoever can
// write to it is root on the host, and a mount that is read-only doesn't hinder that.
func EngineSocket(p string) string {
	switch path.Base(p) {
	case "docker.sock":
		return "Docker"
	case "containerd.sock":
		return "containerd"
	case "podman.sock":
		return "Podman"
	case "crio.sock":
		return "CRI-O"
	}
	return ""
}

// ruling are folders of a host that hold its secrets, or what it will execute, with all
// below them.
var ruling = []string{
	"/etc", "/proc", "/sys", "/dev", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/usr", "/root", "/run/containerd", "/run/docker", "/run/systemd", "/run/dbus",
	"/run/udev", "/var/lib/docker", "/var/lib/containerd", "/var/lib/ecs",
}

// aboveRuling are folders that have some of those, or people's, in them.
var aboveRuling = []string{"/", "/var", "/var/lib", "/run", "/home"}

// RulesHost says that a folder of a host, or what is in it, rules the host: who reads it
// reads secrets, who writes it has something executed. What lies further below is
// BelowRuling.
func RulesHost(p string) bool {
	p = ofHost(p)
	return slices.Contains(ruling, p) || slices.Contains(aboveRuling, p)
}

// BelowRuling says that a path of a host lies in a folder that rules it as a whole, and
// is not one that many mount and that holds nothing.
func BelowRuling(p string) bool {
	p = ofHost(p)
	return slices.ContainsFunc(ruling, func(r string) bool { return strings.HasPrefix(p, r+"/") }) && !Harmless(p)
}

// Harmless names what many mount of a host and that holds nothing.
func Harmless(p string) bool {
	return slices.Contains([]string{"/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/dev/shm", "/etc/ssl/certs", "/etc/pki", "/usr/share/ca-certificates"}, p)
}

// ofHost is a path in one form.
func ofHost(p string) string {
	p = path.Clean(p)
	if rest, ok := strings.CutPrefix(p, "/var/run"); ok && (rest == "" || rest[0] == '/') {
		return "/run" + rest // it is a link everywhere
	}
	return p
}

// Unconfined says that an option of security, as engines take them, switches off what
// the kernel confines containers by: seccomp, AppArmor, SELinux.
func Unconfined(option string) bool {
	return strings.HasSuffix(option, "unconfined") || strings.Contains(option, "label") && strings.HasSuffix(option, "disable")
}

// NamesRoot says that a user, as images and settings write it, is root: by name or by
// number, with a group or without.
func NamesRoot(user string) bool {
	name, _, _ := strings.Cut(strings.TrimSpace(user), ":")
	return name == "root" || name != "" && strings.Trim(name, "0") == ""
}
