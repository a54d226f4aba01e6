package admission

// Document describes what shall run, as whoever keeps it has it, before Requests
// are made of it: a template of CloudFormation, or a task definition of ECS with
// its service.
type Document struct {
	Name string // in what is said of it
	Body []byte // JSON or YAML
	// Digests are those of images, by the names of containers, where it is known
	// which images will be taken or have been: tags move, and these don't.
	Digests map[string]string
}
