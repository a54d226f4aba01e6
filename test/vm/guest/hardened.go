package guest

import (
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Hardened is AppArmor policy in binary form: what castellan harden writes of
// HardenedProfile.
const Hardened = "/hardened"

// Weird is a folder that means something to AppArmor in each of its letters.
const Weird = `/srv/we"ird [a-c]{d,e} f?g^h,i\#@{PROC}` + "\tj\nk é"

// HardenedProfile is the profile of what stands in for a container's program.
func HardenedProfile() profile.Profile {
	file := func(p profile.Pattern) profile.File {
		return profile.File{Path: p, Evidence: profile.Evidence{Source: profile.Learned, Sample: "\n  /** rwx,"}}
	}
	return profile.Profile{
		Group: "vm/test/subject", Revision: 1,
		Executables: []profile.Executable{
			{Path: Subject, Origin: event.OriginImage, Parents: []profile.Pattern{""}},
			{Path: "/opt/allowed-*", Origin: event.OriginImage, Parents: []profile.Pattern{Subject}},
		},
		Writes:  []profile.File{file("/tmp/x-*"), file(Weird + "/**"), file(`/srv/end\`), file("/srv/one")},
		Reads:   []profile.File{file("/run/secrets/kept")},
		Listens: []profile.Listen{{Protocol: "tcp", Port: profile.Ports{First: 80, Last: 80}}},
	}
}
