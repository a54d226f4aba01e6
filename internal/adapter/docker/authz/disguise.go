package authz

import (
	"path"
	"slices"
	"strings"
)

// maxOptions is how long the options of a mount are: the kernel takes one page.
const maxOptions = 4096

// hostPaths are the paths of the host that options of the driver "local" put
// into a volume: it hands them to mount(2), which takes those that don't begin with
// a slash from the engine's own folder, the root. Names of options are the driver's.
// Paths that only the kernel could follow, up from where a link leads or with
// letters of an overlay that stand for others, are an error.
func hostPaths(driver string, options map[string]string) ([]string, error) {
	if driver != "" && driver != "local" {
		return nil, nil
	}
	if len(options["o"]) > maxOptions {
		return nil, refused("set fewer", "the options of a volume are longer than %d bytes", maxOptions)
	}
	var out []string
	device, flags := options["device"], strings.Split(options["o"], ",")
	bound := slices.ContainsFunc(flags, func(f string) bool { return f == "bind" || f == "rbind" || f == "move" })
	where, ofKernel := kernelFolder(options["type"])
	switch {
	case bound: // then its type counts for nothing
	case ofKernel:
		return []string{where}, nil
	case deviceless(options["type"]) && !path.IsAbs(device):
		device = ""
	}
	if device != "" {
		out = append(out, device)
	}
	for _, f := range flags {
		name, value, _ := strings.Cut(f, "=")
		switch name {
		case "lowerdir", "upperdir", "workdir": // of an overlay
			out = append(out, strings.Split(value, ":")...)
		case "lowerdir+", "datadir+":
			out = append(out, value)
		case "device", "journal_path", "logdev", "rtdev", "jdev": // further parts of a file system
			out = append(out, value)
		}
		if strings.HasSuffix(strings.TrimSuffix(name, "+"), "dir") && strings.Contains(options["o"], "\\") {
			return nil, refused("write paths without backslashes", "the options %q of a volume have paths that can be read in two ways", short(options["o"]))
		}
	}
	out = slices.DeleteFunc(out, func(p string) bool { return p == "" })
	for i, p := range out {
		if slices.Contains(strings.Split(p, "/"), "..") {
			return nil, refused("write the path in its shortest form", "the path %q of a volume goes up", short(p))
		}
		out[i] = bounded(path.Clean("/" + p))
	}
	return out, nil
}

// deviceless says that the device of a file system of that type is no path unless
// it begins with a slash.
func deviceless(kind string) bool {
	switch kind {
	case "tmpfs", "nfs", "nfs3", "nfs4", "cifs", "smb3", "overlay":
		return true
	}
	return false
}

// kernelFolder is where the host has the one file system of that type, which is
// the host's wherever it is mounted and whatever is said to be its device.
func kernelFolder(kind string) (folder string, ok bool) {
	switch kind {
	case "proc", "sysfs", "devtmpfs":
		return map[string]string{"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev"}[kind], true
	case "devpts", "mqueue":
		return "/dev/" + strings.TrimPrefix(kind, "dev"), true
	case "cgroup", "cgroup2", "cpuset":
		return "/sys/fs/cgroup", true
	case "debugfs", "tracefs", "configfs", "securityfs":
		return "/sys/kernel/" + strings.TrimSuffix(kind, "fs"), true
	case "bpf", "pstore", "resctrl", "fusectl", "selinuxfs", "smackfs":
		return "/sys/fs/" + strings.TrimSuffix(kind, "fs"), true
	case "efivarfs":
		return "/sys/firmware/efi/efivars", true
	case "binfmt_misc":
		return "/proc/sys/fs/binfmt_misc", true
	case "nfsd", "xenfs", "usbfs":
		return "/proc/fs", true
	case "aufs", "unionfs", "autofs": // unions of any folders
		return "/", true
	}
	return "", false
}
