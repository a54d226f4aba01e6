package policy

// The types of predicates that have a short name. A name stands for all
// versions that say the same, so that a policy need not be changed with the tool.
const (
	slsa1     = "https://slsa.dev/provenance/v1"
	slsa02    = "https://slsa.dev/provenance/v0.2"
	cyclonedx = "https://cyclonedx.org/bom"
	spdx      = "https://spdx.dev/Document"
	openvex   = "https://openvex.dev/ns"
	cosignVul = "https://cosign.sigstore.dev/attestation/vuln/v1"
	intotoVul = "https://in-toto.io/attestation/vulns"

	// ScanPredicate is the type of a scan's result by Castellan.
	ScanPredicate = "https://github.com/castellan-security/castellan/attestation/scan/v1"

	// SignPredicate is the type of a statement that says nothing but that the
	// image is signed: so cosign writes signatures into bundles.
	SignPredicate = "https://sigstore.dev/cosign/sign/v1"
)

// predicates returns what short names stand for.
func predicates() map[string][]string {
	return map[string][]string{
		"slsaprovenance1":  {slsa1},
		"slsaprovenance02": {slsa02},
		"slsaprovenance":   {slsa1, slsa02},
		"cyclonedx":        {cyclonedx},
		"spdx":             {spdx, spdx + "/v2.2", spdx + "/v2.3", spdx + "/v3.0"},
		"openvex":          {openvex, openvex + "/v0.2.0", openvex + "/v0.0.1"},
		"vuln":             {cosignVul, intotoVul + "/v0.1", intotoVul + "/v0.2"},
		"castellan-scan":   {ScanPredicate},
		"test-result":      {"https://in-toto.io/attestation/test-result/v0.1"},
		"release":          {"https://in-toto.io/attestation/release/v0.1"},
		"link":             {"https://in-toto.io/attestation/link/v0.3"},
		"scai":             {"https://in-toto.io/attestation/scai/attribute-report/v0.2"},
		"vsa":              {"https://slsa.dev/verification_summary/v1"},
	}
}

// Moments returns where a predicate of a type says when its content was true, as
// paths of names, the first that is there counts; nil if the type has no such
// place.
func Moments(predicate string) [][]string {
	switch predicate {
	case slsa1:
		return [][]string{{"runDetails", "metadata", "finishedOn"}, {"runDetails", "metadata", "startedOn"}}
	case slsa02:
		return [][]string{{"metadata", "buildFinishedOn"}, {"metadata", "buildStartedOn"}}
	case cyclonedx:
		return [][]string{{"metadata", "timestamp"}}
	case spdx, spdx + "/v2.2", spdx + "/v2.3":
		return [][]string{{"creationInfo", "created"}}
	case openvex, openvex + "/v0.2.0", openvex + "/v0.0.1":
		return [][]string{{"last_updated"}, {"timestamp"}}
	case cosignVul, intotoVul + "/v0.1", intotoVul + "/v0.2":
		return [][]string{{"metadata", "scanFinishedOn"}, {"metadata", "scanStartedOn"}}
	case ScanPredicate:
		return [][]string{{"finished"}, {"metadata", "scanFinishedOn"}}
	case "https://slsa.dev/verification_summary/v1":
		return [][]string{{"timeVerified"}}
	}
	return nil
}
