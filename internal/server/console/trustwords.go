package console

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// verdictOf reads the whole of a verdict; nil if nothing was decided.
func verdictOf(m store.TrustImage) (*trust.Verdict, error) {
	if len(m.Details) == 0 {
		return nil, nil
	}
	var v trust.Verdict
	if err := json.Unmarshal(m.Details, &v); err != nil {
		return nil, fmt.Errorf("read the verdict of %s@%s: %w", m.Repository, m.Digest, err)
	}
	return &v, nil
}

// trustWords say what came of verifying an image, and how that looks.
func trustWords(s store.TrustState) (string, tone) {
	switch s {
	case store.TrustDenied:
		return "denied", danger
	case store.TrustUndecided:
		return "undecided", warn
	case store.TrustLocal:
		return "of no registry", calm
	case store.TrustWaiting:
		return "waits to be verified", calm
	case store.TrustAllowed:
		return "allowed", good
	}
	return string(s), calm
}

// trustMeans says in a sentence what a state means where nothing else does.
func trustMeans(s store.TrustState) string {
	switch s {
	case store.TrustUndecided:
		return "It could not be found out. That is no leave to run."
	case store.TrustLocal:
		return "No registry has it, as far as its engine knows: there is nowhere to look for a signature of it."
	case store.TrustWaiting:
		return "Nobody has looked yet."
	}
	return ""
}

// trustGlyph is the picture of a state.
func trustGlyph(s store.TrustState) string {
	return map[store.TrustState]string{
		store.TrustDenied: "stop", store.TrustUndecided: "warn", store.TrustLocal: "host", store.TrustWaiting: "ring", store.TrustAllowed: "ok",
	}[s]
}

// awsProfile begins the identities of those who let AWS Signer sign.
const awsProfile = "arn:aws"

// signatureKind names the family of a signature as people know it.
func signatureKind(kind, identity string) string {
	switch {
	case kind == string(signature.Sigstore):
		return "Sigstore"
	case kind == string(signature.Notary) && strings.HasPrefix(identity, awsProfile) && strings.Contains(identity, "/signing-profiles/"):
		return "AWS Signer"
	case kind == string(signature.Notary):
		return "Notary Project"
	}
	return orElse(kind, "unknown kind")
}

// proofWords say how the time of a signature is known.
func proofWords(at *time.Time, proof string) string {
	if at == nil {
		return "nothing says when"
	}
	switch signature.Proof(proof) {
	case signature.Authority:
		return "the signing authority vouches for the time"
	case signature.Timestamped:
		return "at the latest: a time stamp proves it"
	case signature.Logged:
		return "at the latest: a transparency log proves it"
	}
	return "says the signer alone"
}

// attestWords name a type of attestations: what stands behind the last host of its
// URI, which is too long to be read.
func attestWords(predicate string) string {
	for name, known := range map[string]string{
		"https://slsa.dev/provenance/": "provenance (SLSA)", "https://cyclonedx.org/bom": "bill of materials (CycloneDX)",
		"https://spdx.dev/Document": "bill of materials (SPDX)", "https://openvex.dev/ns": "statement on vulnerabilities (OpenVEX)",
		"https://cosign.sigstore.dev/attestation/vuln/": "scan for vulnerabilities", trust.ScanPredicate: "scan by Castellan",
	} {
		if strings.HasPrefix(predicate, name) {
			return known
		}
	}
	return predicate
}

// vouchers are the signatures of an image, attestations left out.
func vouchers(m *store.TrustImage) (out []store.TrustSigner) {
	for _, s := range m.Signers {
		if s.Attests == "" {
			out = append(out, s)
		}
	}
	return out
}

// unsigned reports that an image was looked at and that no signature of it holds.
func unsigned(m *store.TrustImage) bool {
	return (m.State == store.TrustDenied || m.State == store.TrustAllowed) && len(vouchers(m)) == 0
}

// attestations counts what was attested of an image.
func attestations(m *store.TrustImage) int { return len(m.Signers) - len(vouchers(m)) }

// caseWords say what became of a signature or attestation that was looked at.
func caseWords(x trust.VerdictCase) (string, tone) {
	switch x.State {
	case trust.SignatureGood:
		if len(x.Signers) == 0 {
			return "holds, and is by nobody whom the policy names", calm
		}
		return "holds", good
	case trust.SignatureRefused:
		return "refused: " + string(x.Reason), danger
	}
	return "could not be opened", warn
}

// caseWho is the identity behind a signature; "" if it is not known.
func caseWho(x trust.VerdictCase) string {
	if x.By == nil {
		return ""
	}
	return x.By.String()
}

// caseWhat says what an envelope is.
func caseWhat(x trust.VerdictCase) string {
	what := "Signature"
	if x.Predicate != "" {
		what = "Attestation: " + attestWords(x.Predicate)
	}
	return what
}

// stepTone is how a step of a verdict looks, and stepGlyph and stepWord say the
// same.
func stepTone(m trust.VerdictMark) tone {
	switch m {
	case trust.MarkYes:
		return good
	case trust.MarkNo:
		return danger
	case trust.MarkOpen:
		return warn
	}
	return calm
}

func stepGlyph(m trust.VerdictMark) string {
	return map[tone]string{good: "ok", danger: "stop", warn: "warn", calm: "ring"}[stepTone(m)]
}

func stepWord(m trust.VerdictMark) string {
	switch m {
	case trust.MarkYes:
		return "yes: "
	case trust.MarkNo:
		return "no: "
	case trust.MarkOpen:
		return "not known: "
	}
	return ""
}

// trustTally says how much is on the page.
func trustTally(d trustData) string {
	return plural(len(d.List), "image", "images") + " on this page, what runs and needs attention first"
}

// idleWords name the hosts whose agents verify nothing.
func idleWords(v verifiers) string {
	names := strings.Join(v.Idle[:min(len(v.Idle), idleShown)], ", ")
	if more := len(v.Idle) - idleShown; more > 0 {
		names += " and " + plural(more, "other", "others")
	}
	return names
}

// trustState is a state as a filter offers it.
func trustState(s store.TrustState) string {
	word, _ := trustWords(s)
	return word
}

// tileWords say what a number counts: images of a state, and the workloads that run
// them.
func tileWords(s store.TrustState, workloads int) string {
	word := map[store.TrustState]string{
		store.TrustDenied: "images denied", store.TrustUndecided: "undecided", store.TrustLocal: "of no registry",
		store.TrustWaiting: "wait to be verified", store.TrustAllowed: "allowed",
	}[s]
	if workloads == 0 {
		return word
	}
	return word + ", in " + plural(workloads, "workload", "workloads")
}

func tileTone(s store.TrustState, n int) tone {
	switch s {
	case store.TrustDenied:
		return someTone(n, danger)
	case store.TrustUndecided:
		return someTone(n, warn)
	}
	return calm
}

// signerWords say who somebody is to the policy, and by what he signs.
func signerWords(l signerLine) string {
	who := "not named by the policy"
	if l.Known {
		who = "of the policy"
	}
	return who + ", " + strings.Join(l.Kinds, ", ")
}

// signaturesHref is the address of what an image's page says of its signatures.
func signaturesHref(imageID string) string { return imageHref(imageID) + "#signatures" }

// unsignedKnown reports that nothing more is known than that there is no signature.
func unsignedKnown(m *imageTrust) bool { return unsigned(&m.TrustImage) }

// nothingFound says what was looked for in vain.
func nothingFound(v *trust.Verdict) string {
	if len(v.Looked) == 0 {
		return "No signature was looked for: the policy decides without."
	}
	return "No signature and no attestation of it was found."
}

// shortIdentity is an identity as a list shows it: of a key's fingerprint as much as
// people compare.
func shortIdentity(identity string) string {
	const begins = "key sha256:"
	if strings.HasPrefix(identity, begins) && len(identity) == len(begins)+64 {
		return identity[:len(begins)+16] + "…"
	}
	return identity
}
