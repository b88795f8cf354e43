/** Whether one writes on glass, where Enter alone can break a line: there is no Shift Enter. */

export const softKeyboard = matchMedia("(hover: none) and (pointer: coarse)");
