package bpf

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type knob guardFile guard_file.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// rungHooks is the best rung of profile.ControlFile and profile.ControlPrivilege, in
// the words of internal/adapter/kernel.
const rungHooks = "BPF LSM"

// fileHooks are what holds files. All but note_program are at hooks of BPF LSM.
var fileHooks = []string{
	"deny_open", "deny_truncate", "deny_mknod", "deny_mkdir", "deny_symlink", "deny_unlink", "deny_rmdir", "deny_link", "deny_rename",
	"deny_chmod", "deny_chown", "note_program",
}

// OpenFileGuard returns what holds containers to the files that they change, and to
// the sensitive ones that they read: refused with EPERM, by BPF LSM alone. dir is as in
// OpenNetGuard.
func OpenFileGuard(dir string, log *slog.Logger) (*Guard, error) {
	return openTableGuard(fileTable(), dir, generationOf(_GuardFileBytes, tableRing), log)
}

// fileTable are the programs that hold files.
func fileTable() tableKind {
	return tableKind{
		control: profile.ControlFile, what: "which files they change", folder: "file", spec: loadGuardFile, rungs: fileRungs,
		fill: func(maps map[string]*ebpf.Map, _ tableRung) error { return putMarks(maps, heldMarks()) },
		lists: func(r *profile.Rules) map[guardExecPathList][]profile.Pattern {
			return map[guardExecPathList][]profile.Pattern{
				guardExecPathListLIST_WRITES: r.File.Writes, guardExecPathListLIST_READS: r.File.Reads,
				guardExecPathListLIST_SENSITIVE: heldReads("shadow", "token", "cloud", "secrets"),
				guardExecPathListLIST_KEYS:      heldReads("keys"),
				guardExecPathListLIST_PUBLIC:    publicPatterns(),
			}
		},
		decode: decodeFileDenial,
	}
}

func fileRungs() ([]tableRung, error) {
	if !bpfIsLSM() {
		return nil, errNoLSM
	}
	if !hasFunction("bpf_lsm_path_rename") {
		return nil, fault.New(fault.Unsupported, "this kernel has no security hooks for paths (CONFIG_SECURITY_PATH)")
	}
	return []tableRung{{rungHooks, fileHooks}}, nil
}

var errNoLSM = fault.New(fault.Unsupported, "BPF is not an active security module of this kernel").
	With("start the kernel with bpf in its list of security modules (lsm=…,bpf), or mount securityfs if it is there and can't be read")

// isHeld says that reading what a rule names is held, and not only told: certificates
// and keys both end in .pem, and too many programs read the former.
func isHeld(r rule) bool { return !strings.HasSuffix(r.pattern, ".pem") }

// heldMarks are by what the kernel finds files whose reading is held.
func heldMarks() map[fileNotableKey]bool {
	marks := map[fileNotableKey]bool{}
	for _, r := range builtin {
		if key, ok := markOf(r.pattern); ok && isHeld(r) {
			marks[key] = true
		}
	}
	for _, name := range procNames {
		marks[newMark(fileNotableNOTABLE_NAME, name)] = true
	}
	return marks
}

// heldReads are the patterns of rules with these names, from their last name on:
// LIST_BACKWARDS of automaton.bpf.h.
func heldReads(names ...string) []profile.Pattern {
	var out []profile.Pattern
	for _, r := range builtin {
		if !slices.Contains(names, r.name) || !isHeld(r) {
			continue
		}
		pattern, anywhere := strings.CutPrefix(r.pattern, "**")
		parts := profile.Pattern(pattern).Names()
		slices.Reverse(parts)
		p := "/" + strings.Join(parts, "/")
		out = append(out, profile.Pattern(p))
		if anywhere {
			out = append(out, profile.Pattern(p+"/**"))
		}
	}
	return out
}

func publicPatterns() []profile.Pattern {
	out := make([]profile.Pattern, 0, len(public))
	for _, folder := range public {
		out = append(out, profile.Pattern(folder+"**"))
	}
	return out
}

// decodeFileDenial is for files.
func decodeFileDenial(d *decoder, r *denial, e *event.Event) error {
	f := &event.File{
		Path: r.path, To: r.to, PathTruncated: r.has(guardExecDenialFlagDENIAL_CUT), Origin: r.origin, FileSystem: r.fileSystem,
		Inode: r.inode, Device: r.device, Error: r.refused,
	}
	e.File = f
	mode := r.mode
	switch r.deed {
	case guardExecDeedDEED_WRITE:
		e.Kind, f.Flags = event.KindFileWrite, openFlags(r.detail)
	case guardExecDeedDEED_CREATE:
		e.Kind, mode = event.KindFileCreate, r.detail
	case guardExecDeedDEED_READ:
		e.Kind, f.Sensitive = event.KindFileRead, sensitivity(r)
	case guardExecDeedDEED_RENAME:
		e.Kind = event.KindFileRename
	case guardExecDeedDEED_LINK:
		e.Kind = event.KindFileLink
	case guardExecDeedDEED_SYMLINK:
		e.Kind, f.Flags = event.KindFileLink, []string{"symbolic"}
		f.Path, f.To = strings.TrimPrefix(r.to, "/"), r.path // a text and no path: joinPath took it for a name
	case guardExecDeedDEED_DELETE:
		e.Kind = event.KindFileDelete
	case guardExecDeedDEED_CHMOD:
		e.Kind, mode = event.KindFileChmod, r.mode&unix.S_IFMT|r.detail
	case guardExecDeedDEED_CHOWN:
		e.Kind = event.KindFileChown
		owner(f, fileKindKIND_CHOWN, r.detail, uint32(r.more))
	default:
		return fmt.Errorf("unknown deed %d", r.deed)
	}
	setMode(f, mode)
	return nil
}

// sensitivity names the rule that a file fits whose reading was held.
func sensitivity(r *denial) string {
	if r.fileSystem == "proc" {
		return procRule(strings.TrimPrefix(r.path, "/proc"))
	}
	s, _ := newSensitive(asset.AgentSettings{})
	return s.rule(r.path)
}
