package dnstunnel

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestNamesThatLookCoded(t *testing.T) {
	for _, name := range []string{
		"orders", "api-gateway-production", "a-long-name-of-a-service", "autodiscover", "checkout-worker-blue-2", "ip-10-0-3-7.eu-central-1",
		"database-primary-0.shop-production", "storage.eu-central-1.prod", "preview-of-the-new-storefront-page-17", "mail2024.newsletter.shop",
	} {
		if coded(name) {
			t.Errorf("%s looks coded", name)
		}
	}
	forms := map[string]func([]byte) string{
		"hex":                          hex.EncodeToString,
		"base32":                       base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString,
		"base32 of the other alphabet": base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString,
		"base64":                       base64.RawURLEncoding.EncodeToString,
	}
	const tries = 500
	for form, encode := range forms {
		random, missed := rand.New(rand.NewPCG(1, 2)), 0
		for range tries {
			b := make([]byte, 24)
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			if name := strings.ToLower(encode(b)); !coded(name[:20] + "." + name[20:]) {
				missed++
			}
		}
		if missed > tries/5 {
			t.Errorf("%d of %d names in %s do not look coded", missed, tries, form)
		}
	}
}

func TestNamesOfBlockLists(t *testing.T) {
	for name, want := range map[string]bool{
		"7.113.0.203": true, "7.113.0.203.bl": true, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2": true,
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen": true,
		"www": false, "0a1b2c3d4e5f": false, "1.stage": false, "12.34": false, "1234.5678.9.1": false,
	} {
		if got := reversed(name); got != want {
			t.Errorf("reversed(%s) = %v", name, got)
		}
	}
}
