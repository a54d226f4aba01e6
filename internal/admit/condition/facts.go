package condition

import (
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/castellan-security/castellan/internal/admission"
)

// factStructs are what is known of an image.
func factStructs() []*Struct {
	known := []*Struct{scanStruct(), vulnerabilityStruct(), foundStruct(), trustStruct(), signerStruct()}
	for _, s := range known {
		s.facts = true
	}
	return append(known, repositoryStruct())
}

// one is a time that there is once, or not at all.
func one(t time.Time) []time.Time { return []time.Time{t} }

// endOfLife, trustEnds, published and signed are times by which fields follow the
// clock.
func endOfLife(f *admission.Facts) []time.Time {
	if f.Scan.EndOfLife == nil {
		return nil
	}
	return one(*f.Scan.EndOfLife)
}

func trustEnds(f *admission.Facts) []time.Time { return one(f.Trust.Until) }

func published(f *admission.Facts) []time.Time {
	out := make([]time.Time, len(f.Scan.Vulnerabilities))
	for i := range out {
		out[i] = f.Scan.Vulnerabilities[i].Published
	}
	return out
}

func signed(f *admission.Facts) []time.Time {
	out := make([]time.Time, len(f.Trust.Signers))
	for i := range out {
		out[i] = f.Trust.Signers[i].At
	}
	return out
}

// elapsed is how long ago a time is that may not be known.
func elapsed[T any](name, doc, what string, get func(*T) time.Time) Field {
	return Field{Name: name, Type: "duration", Doc: doc, get: func(o *Object) any {
		if t := get(of[T](o)); !t.IsZero() {
			return o.view.age(t)
		}
		return moment(o, what, time.Time{})
	}}
}

func scanStruct() *Struct {
	type T = admission.Scan
	return &Struct{Name: "Scan", Doc: "How an image was scanned.", Fields: []Field{
		elapsed("age", "how long ago the image was read", "the time of the scan", func(v *T) time.Time { return v.At }).
			at(func(f *admission.Facts) []time.Time { return one(f.Scan.At) }),
		elapsed("database_age", "how old the advisories were that it was last held against", "the age of the advisories", func(v *T) time.Time { return v.Database }).
			at(func(f *admission.Facts) []time.Time { return one(f.Scan.Database) }),
		flag("incomplete", "something of the image could not be looked at", func(v *T) bool { return v.Lost }),
		text("distribution", "its distribution, as it names itself", func(v *T) string { return v.Distribution }),
		{Name: "end_of_life", Type: "bool", Doc: "its distribution gets no fixes any more", times: endOfLife, get: func(o *Object) any {
			end := of[T](o).EndOfLife
			if end == nil {
				return types.False
			}
			o.view.clock = true
			return types.Bool(!o.view.Now.Before(*end))
		}},
		field("end_of_life_date", "string", "until when its distribution gets fixes: 2026-06-30; empty if nobody tells", func(v *T) any {
			if v.EndOfLife == nil {
				return types.String("")
			}
			return types.String(v.EndOfLife.Format(time.DateOnly))
		}),
	}}
}

func vulnerabilityStruct() *Struct {
	type T = admission.Vulnerability
	return &Struct{Name: "Vulnerability", Doc: "A known vulnerability of a package in an image.", Fields: []Field{
		text("id", "CVE-2026-1234", func(v *T) string { return v.ID }),
		text("package", "name of the package", func(v *T) string { return v.Package }),
		text("version", "of the package in the image", func(v *T) string { return v.Version }),
		text("fixed", "version that has it no more; empty: there is no fix", func(v *T) string { return v.Fixed }),
		flag("fixable", "there is a fix", func(v *T) bool { return v.Fixed != "" }),
		field("severity", "severity", "unrated, negligible, low, medium, high or critical", func(v *T) any { return severity(v.Severity) }),
		field("score", "double", "CVSS base score, 0 if nobody gave one", func(v *T) any { return types.Double(v.Score) }),
		field("epss", "double", "probability that it is exploited in the next 30 days, 0 to 1; 0 if nobody gave one", func(v *T) any { return types.Double(v.EPSS) }),
		flag("kev", "it is known to be exploited (CISA's catalogue)", func(v *T) bool { return v.KEV }),
		flag("in_use", "a running container has used the package", func(v *T) bool { return v.InUse }),
		elapsed("age", "how long ago it was published; unknown if nobody tells", "the date on which the vulnerability was published", func(v *T) time.Time { return v.Published }).at(published),
		flag("accepted", "somebody decided to live with it", func(v *T) bool { return v.Accepted }),
	}}
}

func foundStruct() *Struct {
	type T = admission.Found
	return &Struct{Name: "Found", Doc: "A secret, malware or a fault in an image.", Fields: []Field{
		text("rule", "id of the rule that found it", func(v *T) string { return v.Rule }),
		text("title", "", func(v *T) string { return v.Title }),
		field("severity", "severity", "", func(v *T) any { return severity(v.Severity) }),
		text("place", "path, or name of a variable", func(v *T) string { return v.Place }),
		flag("accepted", "somebody decided to live with it", func(v *T) bool { return v.Accepted }),
	}}
}

func trustStruct() *Struct {
	type T = admission.Trust
	return &Struct{Name: "Trust", Doc: "What the trust policy says of an image.", Fields: []Field{
		{Name: "allowed", Type: "bool", Doc: "all those vouched for it who must, and what they said still holds", times: trustEnds, get: func(o *Object) any {
			t := of[T](o)
			if t.Until.IsZero() {
				return types.Bool(t.Allowed)
			}
			o.view.clock = true
			return types.Bool(t.Allowed && o.view.Now.Before(t.Until))
		}},
		{Name: "why", Type: "string", Doc: "why it isn't allowed", times: trustEnds, get: func(o *Object) any {
			t := of[T](o)
			if t.Allowed && !t.Until.IsZero() && !o.view.Now.Before(t.Until) {
				return types.String("what was verified holds since " + t.Until.Format(time.RFC3339) + " no longer")
			}
			return types.String(t.Why)
		}},
		text("remedy", "what to do", func(v *T) string { return v.Remedy }),
		parts("signers", "Signer", "signatures and attestations that hold", func(v *T) []admission.Signer { return v.Signers }),
	}}
}

func signerStruct() *Struct {
	type T = admission.Signer
	return &Struct{Name: "Signer", Doc: "A signature or an attestation that holds.", Fields: []Field{
		words("names", "of the signer in the trust policy", func(v *T) []string { return v.Names }),
		text("identity", "who it is", func(v *T) string { return v.Identity }),
		text("kind", "sigstore or notary", func(v *T) string { return v.Kind }),
		text("attests", "type of an attestation; empty for a signature", func(v *T) string { return v.Attests }),
		elapsed("age", "how long ago it was made", "the time of the signature", func(v *T) time.Time { return v.At }).at(signed),
	}}
}

func repositoryStruct() *Struct {
	type T = admission.Repository
	return &Struct{Name: "Repository", Doc: "A repository of images that is created or changed.", Fields: []Field{
		text("name", "", func(v *T) string { return v.Name }),
		flag("immutable", "its tags can't be moved", func(v *T) bool { return v.Immutable }),
		flag("scan_on_push", "", func(v *T) bool { return v.ScanOnPush }),
		text("key", "KMS key; empty: encrypted by the registry's own", func(v *T) string { return v.Key }),
		{Name: "statements", Type: "list(Statement)", Doc: "of its policy: who may pull and push", get: repositoryStatements},
	}}
}
