/** Where a second set of read models is built, beside the file that it may replace. */
export const shadowFile = (file: string): string => `${file}.rebuild`
