package detect

import "github.com/castellan-security/castellan/internal/detect/story"

// Book holds stories of threats that may still go on: see package story.
type Book = story.Book

// Story is one story in a Book.
type Story = story.Story

// Told is what people were told of a story last.
type Told = story.Told

// How long a story of a Book may still go on after its last threat, and how many it
// holds.
const (
	KeepStory  = story.KeepFor
	MaxStories = story.MaxStories
	// MaxStoryEntries is how many entries of a timeline people and responses may make.
	MaxStoryEntries = story.MaxPeople
)

// ToldOf reads from what is remembered of a story (Story.Memory) what people were told
// of it.
func ToldOf(memory []byte) (Told, error) { return story.ToldOf(memory) }

// NewBook returns a book without stories.
func NewBook() *Book { return story.NewBook() }
