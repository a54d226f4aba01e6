package scan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

func faulty() *inventory.Inventory {
	step := func(s string, empty bool) inventory.Step { return inventory.Step{Instruction: s, Empty: empty} }
	return &inventory.Inventory{
		Subject: inventory.Subject{Kind: inventory.KindImage, Name: "shop:1"},
		Image: &inventory.Image{
			Platform: inventory.Platform{OS: "linux", Architecture: "amd64"},
			Config: inventory.Config{Env: []string{"PATH=/bin", "DB_PASSWORD=hunter2hunter2"}, ExposedPorts: []string{"22/tcp"},
				Labels: map[string]string{"org.opencontainers.image.base.name": "docker.io/library/debian:latest"}},
			Layers: []inventory.Layer{{}, {}, {}},
			History: []inventory.Step{step("ADD rootfs.tar /", false), step("ENV A=b", true), step("RUN |1 NPM_TOKEN=npm8f3c2d9a1b7e /bin/sh -c npm ci", false),
				step("RUN curl https://example.org/x | sh", false)},
		},
		Packages: []inventory.Package{{Type: "deb", Name: "openssh-server", Version: "1", Places: []inventory.Place{{Layer: 2}}}, {Type: "npm", Name: "sudo"}},
		Files: []inventory.File{{Place: inventory.Place{Path: "/opt/x", Layer: 3}, Why: inventory.SetUID}, {Place: inventory.Place{Path: "/usr/bin/su", Layer: 1}, Why: inventory.SetUID, Owner: "util-linux"},
			{Place: inventory.Place{Path: "/var/lib/apt/lists/a", Layer: 2}, Size: 2_000_000, Why: inventory.PackageCache}, {Place: inventory.Place{Path: "/var/lib/apt/lists/b", Layer: 2}, Size: 500_000, Why: inventory.PackageCache}},
	}
}

// What an image's configuration, history and files tell, each with its layer, and
// no secret.
func TestImageFaults(t *testing.T) {
	var got []string
	for _, m := range scan.ImageFaults(faulty()) {
		got = append(got, fmt.Sprintf("%s layer %d: %s", m.Check, m.Layer, m.Evidence))
		if strings.Contains(fmt.Sprint(m), "hunter2") || strings.Contains(fmt.Sprint(m), "npm8f3c2d9a1b7e") {
			t.Errorf("a secret is told: %+v", m)
		}
		if m.Fingerprint == "" || m.File != "" {
			t.Errorf("%+v", m)
		}
	}
	if diff := cmp.Diff(got, []string{
		"CAST-IMAGE-001 layer 0: no USER is set",
		"CAST-IMAGE-002 layer 0: docker.io/library/debian:latest has the tag latest",
		"CAST-IMAGE-007 layer 3: /opt/x is set-uid",
		"CAST-IMAGE-008 layer 0: there is no HEALTHCHECK",
		"CAST-IMAGE-009 layer 0: port 22/tcp is exposed",
		"CAST-IMAGE-010 layer 2: package openssh-server",
		"CAST-IMAGE-011 layer 0: variable DB_PASSWORD holds a password of 14 characters",
		"CAST-IMAGE-011 layer 0: variable NPM_TOKEN holds a token of 15 characters",
		"CAST-IMAGE-012 layer 3: RUN curl https://example.org/x | sh",
		"CAST-IMAGE-021 layer 0: /usr/bin/su",
		"CAST-IMAGE-023 layer 2: /var/lib/apt/lists: 2 files, 2.5 MB",
	}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// A root file system and a bill of materials don't say how an image is run.
func TestImageFaultsOfWhatIsNoImage(t *testing.T) {
	bill := faulty()
	bill.Subject.Kind = inventory.KindSBOM
	root := faulty()
	root.Image = nil
	for _, inv := range []*inventory.Inventory{bill, root} {
		if got := scan.ImageFaults(inv); len(got) > 0 {
			t.Errorf("%s: %v", inv.Subject.Kind, got)
		}
	}
}

// The next build of an image has the same faults: a change of its tag is none.
func TestImageFaultsKeepTheirFingerprints(t *testing.T) {
	next := faulty()
	next.Subject.Name, next.Image.Reference = "shop:2", "shop:2"
	first, second := scan.ImageFaults(faulty()), scan.ImageFaults(next)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// What is told as a secret is no fault beside, whichever part of the image it is in;
// a secret that only a check knows still is one.
func TestSecretsAreToldOnce(t *testing.T) {
	im := imageOf(t, []string{"file a x"})
	im.info.Config = inventory.Config{Env: []string{"DB_PASSWORD=" + planted, "WEAK_PASSWORD=changeme", "MASTER_KEY=f00dcafe77"}, Labels: map[string]string{"deploy.token": "q8Zr4Lw2Vn7Xc1Bm5Ty9Kd3"}}
	im.info.History = []inventory.Step{{Instruction: "RUN |1 NPM_TOKEN=npm8f3c2d9a1b7e /bin/sh -c npm ci"}, {Instruction: "RUN tool --password " + planted}}
	inv := secretsOf(t, scan.Options{}, im)
	var told []string
	for _, s := range inv.Secrets {
		told = append(told, fmt.Sprintf("%s %s %s", s.Source, s.Name, s.Check))
	}
	if d := cmp.Diff(told, []string{"argument step 1 CAST-IMAGE-011", "env DB_PASSWORD CAST-IMAGE-011", "env MASTER_KEY CAST-IMAGE-011", "env WEAK_PASSWORD CAST-IMAGE-011",
		"history step 2 CAST-IMAGE-020", "label deploy.token CAST-IMAGE-011"}); d != "" {
		t.Errorf("secrets (-got +want):\n%s", d)
	}
	about := func(inv *inventory.Inventory) (n int) {
		for _, m := range scan.ImageFaults(inv) {
			if m.Check == "CAST-IMAGE-011" || m.Check == "CAST-IMAGE-020" {
				n++
			}
		}
		return n
	}
	if n := about(&inv); n != 0 {
		t.Errorf("%d are told as faults, too", n)
	}
	all := len(inv.Secrets)
	inv.Secrets = nil
	if n := about(&inv); n != all {
		t.Errorf("where no secrets are looked for %d are told as faults, want %d", n, all)
	}
}
