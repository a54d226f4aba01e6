package authz

import (
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
)

// trusted says that a container passes by the id of its image, which nothing else
// can have: labels, names and tags are anybody's. It must run what the image says,
// unprivileged; and unless the image is the ECS agent's, ask for nothing of the host.
func (p *Plugin) trusted(c *admission.Container, known localImage) bool {
	if c.Privileged || !asMade(c, known) {
		return false
	}
	return slices.Contains(p.options.AgentImages, known.ID) ||
		slices.Contains(p.options.Trusted, known.ID) && asksNothing(c)
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
