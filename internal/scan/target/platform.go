package target

import (
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// ParsePlatform reads a platform as image tools write it, linux/arm64/v8, or an
// architecture alone, which is then Linux's. Names that machines give
// themselves, as x86_64, are understood.
func ParsePlatform(s string) (inventory.Platform, error) {
	const remedy = "write it as linux/amd64, linux/arm64 or linux/arm/v7"
	parts := strings.Split(strings.ToLower(s), "/")
	for _, p := range parts {
		if p == "" || len(p) > 32 || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_-.") != "" {
			return inventory.Platform{}, fault.New(fault.Invalid, "platform %.80q", s).With(remedy)
		}
	}
	if len(parts) == 1 {
		parts = append([]string{"linux"}, parts...)
	}
	if len(parts) > 3 {
		return inventory.Platform{}, fault.New(fault.Invalid, "platform %.80q: more than a system, an architecture and a variant", s).With(remedy)
	}
	p := inventory.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	switch p.Architecture {
	case "linux", "windows":
		return inventory.Platform{}, fault.New(fault.Invalid, "platform %.80q: a system without an architecture", s).With(remedy)
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386":
		p.Architecture = "386"
	case "armhf", "armv7", "armv7l":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel", "armv6", "armv6l":
		p.Architecture, p.Variant = "arm", "v6"
	}
	return p, nil
}
