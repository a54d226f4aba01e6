package authz

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
)

// trusted says that a container passes by the id of its image, which nothing else
// can have: labels, names and tags are anybody's. It must run what the image says,
// unprivileged; and unless the image is the ECS agent's, ask for nothing of the host.
func (p *Plugin) trusted(c *admission.Container, asked *health, known localImage) bool {
	if c.Privileged || !asMade(c, known) || !ownHealth(asked, known) {
		return false
	}
	return slices.Contains(p.options.AgentImages, known.ID) && ownProgram(c, known) ||
		slices.Contains(p.options.Trusted, known.ID) && asksNothing(c)
}

// ownHealth says that the engine runs nothing else in a container to ask for its
// health than what the image says.
func ownHealth(asked *health, known localImage) bool {
	if asked == nil || len(asked.Test) == 0 || asked.Test[0] == "NONE" {
		return true
	}
	return known.Config != nil && known.Config.Healthcheck != nil && slices.Equal(asked.Test, known.Config.Healthcheck.Test)
}

// ownProgram says that the program which an image names is the image's: nothing is
// mounted over it, and nothing is loaded into it. Libraries may be the host's own,
// as the ECS agent's are.
func ownProgram(c *admission.Container, known localImage) bool {
	for _, v := range c.Env {
		if strings.HasPrefix(v.Name, "LD_") {
			return false
		}
	}
	if known.Config == nil {
		return len(c.Mounts) == 0
	}
	var programs []string
	for _, w := range append(slices.Clone(known.Config.Entrypoint), known.Config.Cmd...) {
		if path.IsAbs(w) {
			programs = append(programs, path.Clean(w))
		}
	}
	if len(programs) == 0 { // looked for in many folders
		return len(c.Mounts) == 0
	}
	return !slices.ContainsFunc(c.Mounts, func(m admission.Mount) bool {
		at := path.Clean("/" + m.Target)
		over := func(p string) bool { return at == "/" || p == at || strings.HasPrefix(p, at+"/") }
		return slices.ContainsFunc(programs, over) || ofPrograms(at) && !ofPrograms(m.Source)
	})
}

// ofPrograms says that a folder has programs or what is loaded into them.
func ofPrograms(folder string) bool {
	for _, of := range []string{"/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc/ld.so.preload", "/etc/ld.so.cache"} {
		if folder == of || strings.HasPrefix(folder, of+"/") {
			return true
		}
	}
	return false
}

// asMade says that a container runs what its image says.
func asMade(c *admission.Container, known localImage) bool {
	if known.Config == nil {
		return len(c.Entrypoint) == 0 && len(c.Command) == 0
	}
	return (len(c.Entrypoint) == 0 || slices.Equal(c.Entrypoint, known.Config.Entrypoint)) &&
		(len(c.Command) == 0 || slices.Equal(c.Command, known.Config.Cmd))
}

// asksNothing says that a container asks for nothing of the host or of others.
func asksNothing(c *admission.Container) bool {
	plain := c.Network == "" || c.Network == "none" || c.Network == "bridge"
	own := func(mode string) bool { return mode == "" || mode == "private" || mode == "shareable" }
	return plain && own(c.PID) && own(c.IPC) && own(c.Cgroup) && c.UTS == "" && c.UserNS == "" &&
		(c.Runtime == "" || c.Runtime == "runc") && onlyNarrows(c.SecurityOpt) &&
		len(c.Mounts)+len(c.Devices)+len(c.CapAdd)+len(c.From)+len(c.Sysctls)+len(c.Ports) == 0
}

// onlyNarrows says that security options take away and give nothing.
func onlyNarrows(options []string) bool {
	return !slices.ContainsFunc(options, func(o string) bool {
		v, ok := strings.CutPrefix(o, "no-new-privileges")
		yes, err := strconv.ParseBool(strings.TrimLeft(v, "=:"))
		return !ok || v != "" && (err != nil || !yes)
	})
}
