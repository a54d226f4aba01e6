package harden_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/profile"
)

// A profile with half of what is taken in each of its lists is written, and its
// rules for Landlock are read again; the cost grows with the square.
func TestALargeProfile(t *testing.T) {
	p := profile.Profile{Group: "shop/web/nginx"}
	const each = profile.MaxPatterns / 2
	for i := range each {
		deep := fmt.Sprintf("/srv/some/folder/deep/below/%d", i)
		p.Executables = append(p.Executables, profile.Executable{Path: profile.Pattern(deep + "/bin/x*"), Origin: event.OriginImage, Parents: []profile.Pattern{"", profile.Pattern(deep)}, Users: []uint32{0, 1}})
		p.Writes = append(p.Writes, profile.File{Path: profile.Pattern(deep + "/data/*.log")})
		p.Reads = append(p.Reads, profile.File{Path: profile.Pattern("/run/secrets/" + fmt.Sprint(i))})
		p.Listens = append(p.Listens, profile.Listen{Protocol: "tcp", Port: profile.Ports{First: uint16(i), Last: uint16(i)}})
	}
	start := time.Now()
	r, err := harden.Compile(&p, harden.Options{Outputs: harden.Outputs(), TaskDefinition: []byte(oneTask)})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Files {
		if f.Output == harden.Landlock {
			if l, err := harden.ReadLandlock([]byte(f.Content)); err != nil || len(l.Paths) < 3*each {
				t.Errorf("rules for Landlock: %d paths, %v", len(l.Paths), err)
			}
		}
		t.Logf("%s: %d bytes", f.Output, len(f.Content))
	}
	t.Logf("%v, %d notes", time.Since(start), len(r.Notes))
}
