// The shapes of docs/serving-api.md and of the page's own state, for the type checker.

/**
 * @typedef {{name: string, changed: string, n_bytes: number, parent: string}} StoryLine
 * @typedef {{id: string, name: string}} FileOf
 * @typedef {"user" | "assistant" | "note"} Role
 *
 * @typedef {object} Message
 * @property {Role} role
 * @property {string} name
 * @property {string} text
 * @property {string} date
 * @property {string[]} swipes
 * @property {number} swipe
 * @property {string[]} branches
 *
 * @typedef {object} Story
 * @property {string} name
 * @property {string} revision
 * @property {string} system
 * @property {string} memory
 * @property {{text: string, depth: number}} note
 * @property {string} user
 * @property {FileOf[]} cards
 * @property {FileOf[]} lorebooks
 * @property {string[]} speakers
 * @property {string} next_speaker
 * @property {string} next_in_turn
 * @property {number} forgotten
 * @property {Message[]} messages
 * @property {{name: string, depth: number}[]} tree
 * @property {string[]} remarks
 *
 * @typedef {number | string | string[]} Value
 * @typedef {Record<string, Value>} Settings
 *
 * @typedef {object} Setting
 * @property {string} name
 * @property {"whole" | "number" | "text" | "list"} kind
 * @property {number | null} low
 * @property {number | null} high
 * @property {Value} default
 * @property {string} meaning
 *
 * @typedef {object} Desk
 * @property {string} model
 * @property {number} n_ctx
 * @property {number | null} max_tokens
 * @property {boolean} has_experts
 * @property {string[]} expert_names
 * @property {Settings} sampling
 * @property {Setting[]} settings
 * @property {string[]} samplers
 * @property {Record<string, Settings>} presets
 * @property {string[]} bans
 * @property {number | null} choices    blind choices so far; null where there is one model
 * @property {string} version
 *
 * @typedef {object} Round             two answers to one turn, of which one is to be chosen
 * @property {string} story
 * @property {string} id
 * @property {string} question         the user's message; "" if the turn has none
 * @property {number} index
 * @property {string} speaker
 * @property {string[]} answers
 *
 * @typedef {{name: string, chosen: number}} Chosen
 * @typedef {object} Preference
 * @property {number} choices
 * @property {number} equal
 * @property {Chosen[]} models
 * @property {number} share            of the first among the choices for one of the two
 * @property {number} low
 * @property {number} high
 * @property {number} p_value
 * @property {boolean} is_beyond_chance
 *
 * @typedef {{id: number, text: string, probability: number}} Alternative
 * @typedef {{text: string, probability?: number, alternatives?: Alternative[],
 *   experts?: [number, number][]}} Word
 * A piece of an answer; a text that the page has not seen being written has no probability.
 *
 * @typedef {object} Figures
 * @property {number} tokens
 * @property {number} tokens_per_second
 * @property {number} prompt_tokens
 * @property {number} prompt_evaluated
 * @property {number} prompt_reused
 * @property {number} prompt_seconds
 * @property {number} rewound
 * @property {number} n_ctx
 *
 * @typedef {object} Card
 * @property {string} id
 * @property {string} name
 * @property {string} creator
 * @property {string[]} tags
 * @property {boolean} has_picture
 * @property {number} greetings
 * @property {string} notes
 * @property {string[]} remarks
 * @property {string} [description]
 * @property {string} [personality]
 * @property {string} [scenario]
 * @property {string} [first_mes]
 *
 * @typedef {object} Lorebook
 * @property {string} id
 * @property {string} name
 * @property {number} entries
 * @property {string[]} remarks
 * @property {{keys: string[], text: string}[]} [items]
 *
 * @typedef {{kind: string, text: string, tokens: number, index: number | null}} Part
 * @typedef {{kind: string, name: string, text: string, tokens: number, why: string,
 *   is_active: boolean}} Insert
 * @typedef {{n_ctx: number, tokens: number, text: string, parts: Part[], inserts: Insert[],
 *   dropped: number}} Prompt
 *
 * @typedef {object} Answering
 * @property {string} story
 * @property {number} index        which message is being written
 * @property {string} speaker
 * @property {Word[]} words
 * @property {number} first        where the tokens of this answer begin in `words`
 * @property {string} status
 *
 * @typedef {"write" | "notebook" | "read" | "tree"} View
 * @typedef {"" | "story" | "sampling" | "context" | "library" | "blind"} Panel
 * @typedef {{id: number, text: string, isError: boolean}} Notice
 *
 * @typedef {object} State
 * @property {Desk | null} desk
 * @property {StoryLine[]} stories
 * @property {Story | null} story
 * @property {View} view
 * @property {Panel} panel
 * @property {boolean} listIsOpen
 * @property {Answering | null} answering
 * @property {Round | null} round
 * @property {boolean} isBlind         two models answer each turn
 * @property {number} goal             blind choices before the result is shown
 * @property {Preference | null} preference
 * @property {string} draft            what the next message begins with
 * @property {Figures | null} figures
 * @property {string} finish
 * @property {Prompt | null} prompt
 * @property {Card[]} cards
 * @property {Lorebook[]} lorebooks
 * @property {Settings} sampling       what differs from the server's defaults
 * @property {string[]} bans
 * @property {number} maxTokens        0 is no limit
 * @property {Notice[]} notices
 * @property {"" | "key" | "new" | "export" | "help"} dialog
 * @property {string} theme            "", "light" or "dark"
 */

export {};
