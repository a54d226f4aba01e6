package peers_test

// imageDifference explains lines that only one side has, in images whose name
// and lines whose text fit; side is whose they are.
type imageDifference struct{ image, tool, side, line, why string }

// imageDifferences say who is right, and why. Where Castellan was wrong, it was
// mended; what is left are other decisions, and mistakes of the peers.
var imageDifferences = []imageDifference{
	{"alma", "syft", "theirs", `^rpm gpg-pubkey `, "a key with which packages are checked, kept among them, is no package"},

	{"debian", "syft", "theirs", `^maven (jsr305:jsr305|libintl:libintl) `, "the jar tells no group; the artifact's name in its place is nobody's coordinate"},
	{"debian", "syft", "ours", `^maven (jsr305|libintl) `, "the same jars, shown without a group and looked up nowhere"},
	{"debian", "syft", "theirs", `^maven plexus-utils2:plexus-utils2 -$`, "a second name without a version for what its pom.properties names fully"},

	{"languages", "syft", "theirs", `^maven org\.springframework\.boot\.loader\.JarLauncher:boot `, "a class that starts the program is no group; its pom.properties names org.example:shop, which both have"},
	{"languages", "syft", "theirs", `^maven site:site -$`, "the name of a file, without group or version"},
	{"languages", "syft", "theirs", `^maven org\.example\.plain:plain 1\.2$`, "a group cut out of a bundle's name, which no class in the jar bears out"},
	{"languages", "syft", "ours", `^maven plain 1\.2$`, "the same jar, without a group"},
	{"languages", "syft", "ours", `^maven tiny 0\.1$`, "a jar without a manifest is known by its file's name, and shown as inferred"},
	{"languages", "syft", "theirs", `^npm (web 0\.3\.0|nothing -)$`, "the application itself, and a manifest without a version"},
	{"languages", "syft", "theirs", `^npm fixture 9\.9\.9$`, "what a package brings for its own tests is not installed"},
	{"languages", "syft", "theirs", `^nuget app 1\.0\.0$`, "the application itself"},
	{"languages", "syft", "theirs", `^golang example\.com/dev 2\.3\.4$`, "a version out of the linker's flags, which may set any variable; Go itself says (devel)"},
	{"languages", "syft", "theirs", `^golang example\.com/own -$`, "a folder of the project that stands in for a module, without a version"},
	{"languages", "syft", "ours", `^(cargo (smallvec|src)|golang (github\.com/hashicorp/consul|golang\.org/x/image)|npm (@babel/core|left-pad|swagger-ui)|pypi (certifi|flask|ipython|salt|twisted)) `,
		"named by a lock file or manifest without a tree beside it; of images theirs reads only what is installed. Ours says that it is declared"},
	{"languages", "syft", "ours", `^pypi numpy 1\.16\.0$`, "a wheel that was not unpacked"},

	{"alma", "osv-scanner", "theirs", ` rpm (nginx|nodejs|npm) `, "fixes of other module streams, whose higher versions say nothing about this one"},
	{"alma", "grype", "theirs", `^ALSA-2022:8832 rpm npm `, "npm has the fixed version; theirs compares it with that of nodejs, its source, which counts otherwise"},
	{"debian", "osv-scanner|grype", "theirs", ` pypi (cryptography|pip|pygments) `, "of Debian's packages, which fixes them under versions of its own: matched with Debian's advisories alone"},
	{"languages", "osv-scanner", "theirs", ` npm lodash 4\.17\.15$`, "named by npm's note; in the tree is 4.17.21, of an upper layer"},
	{"languages", "osv-scanner", "ours", ` composer `, "of images theirs doesn't read what Composer installed"},
	{"languages", "osv-scanner", "ours", ` nuget `, "of images theirs doesn't read .deps.json"},
	{"languages", "osv-scanner|grype", "ours", ` (golang (github\.com/hashicorp/consul|golang\.org/x/image)|pypi (certifi|flask|salt|twisted)) `,
		"of lock files and manifests without a tree beside them: see above"},
	{"languages", "grype", "ours", ` pypi numpy `, "of a wheel that was not unpacked"},
}
